#include "crop.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>
#include <vector>

#include "simd.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

namespace facemesh {
namespace {

// Per output coordinate `count` source coordinates with weights that sum to 1; unused ones, and those outside the frame, have weight 0.
struct Taps {
    int count;
    std::vector<int32_t> index; // (size, count)
    std::vector<float> weight;  // (size, count)
    std::vector<int32_t> used;  // (size,): how many of them come first that are used
};

// The bilinear samples of `samples` equal parts of every output pixel, neighbours that fall on the same source coordinate joined.
Taps make_taps(int size, int samples, double s, double t, int extent) {
    const int capacity = 2 * samples;
    Taps all{capacity, std::vector<int32_t>(size_t(size) * capacity), std::vector<float>(size_t(size) * capacity), std::vector<int32_t>(size)};
    const double part = 1.0 / samples;
    int longest = 2;
    int32_t inside = 0; // any coordinate in use: what has weight 0 points there, so that it does not widen the range that is read
    for (int output = 0; output < size; ++output) {
        int32_t *indices = all.index.data() + output * capacity;
        float *weights = all.weight.data() + output * capacity;
        int used = 0;
        const auto add = [&](int32_t coordinate, float weight) {
            if (coordinate < 0 || coordinate >= extent) return; // black outside the frame
            int tap = used; // source coordinates rise from sample to sample: an equal one is the last or the last but one
            for (int back = 1; back <= 2 && back <= used; ++back)
                if (indices[used - back] == coordinate) tap = used - back;
            if (tap == used) {
                indices[used] = inside = coordinate;
                weights[used++] = 0;
            }
            weights[tap] += weight;
        };
        for (int sample = 0; sample < samples; ++sample) {
            const double position = (output + (sample - (samples - 1) / 2.0) * part - t) / s;
            if (!(position > -1 && position < extent)) continue;
            const int32_t left = int32_t(position + 1) - 1; // rounded down, as it is above -1
            const double fraction = position - left;
            add(left, float((1 - fraction) * part));
            add(left + 1, float(fraction * part));
        }
        all.used[output] = used;
        longest = std::max(longest, used);
    }
    Taps taps{longest, std::vector<int32_t>(size_t(size) * longest, inside), std::vector<float>(size_t(size) * longest), std::move(all.used)};
    for (int output = 0; output < size; ++output) {
        std::copy_n(all.index.data() + output * capacity, taps.used[output], taps.index.data() + output * longest);
        std::copy_n(all.weight.data() + output * capacity, taps.used[output], taps.weight.data() + output * longest);
    }
    return taps;
}

// 0..1 in 1/65536; 1 itself is one part less.
uint16_t fixed_point(float weight) { return uint16_t(std::min(65535.0f, 65536 * weight + 0.5f)); }

// out (+)= weighted sum of COUNT rows of `length` bytes, in 1/256: 16-bit lanes, each product is rounded by less than 1/256 of a level.
// weights are in 1/65536.
template <int COUNT, bool ADD>
FACEMESH_INLINE void weigh_rows(const uint8_t *const *rows, const uint16_t *weights, int length, uint16_t *out) {
    const uint8_t *row[COUNT];
    uint16_t weight[COUNT];
    for (int i = 0; i < COUNT; ++i) {
        row[i] = rows[i];
        weight[i] = weights[i];
    }
#pragma omp simd
    for (int i = 0; i < length; ++i) {
        uint16_t sum = ADD ? out[i] : 0;
        for (int k = 0; k < COUNT; ++k) sum = uint16_t(sum + ((uint32_t(uint16_t(row[k][i] << 8)) * weight[k]) >> 16));
        out[i] = sum;
    }
}

FACEMESH_MULTIVERSION
void weigh_rows(const uint8_t *const *rows, const uint16_t *weights, int count, int length, uint16_t *out) {
    switch (count) {
    case 0: std::fill_n(out, length, uint16_t(0)); return;
    case 1: weigh_rows<1, false>(rows, weights, length, out); return;
    case 2: weigh_rows<2, false>(rows, weights, length, out); return;
    case 3: weigh_rows<3, false>(rows, weights, length, out); return;
    case 4: weigh_rows<4, false>(rows, weights, length, out); return;
    }
    weigh_rows<5, false>(rows, weights, length, out);
    for (int done = 5; done < count; ++done) weigh_rows<1, true>(rows + done, weights + done, length, out);
}

// The taps of a column as a window of neighbouring pixels, two at a time: eight lanes are the channels of a pixel, those of the next one
// and two unused ones.
typedef uint16_t Lanes __attribute__((vector_size(16))); // GCC and Clang, every platform

struct Windows {
    int pairs;
    std::vector<int32_t> start;  // (size,): offset of the first pixel in a row
    std::vector<Lanes> weights;  // (size, pairs), in 1/65536
};

Windows make_windows(const Taps &taps, int size, int32_t first_column) {
    int32_t widest = 1;
    for (int x = 0; x < size; ++x)
        if (taps.used[x]) widest = std::max(widest, taps.index[x * taps.count + taps.used[x] - 1] - taps.index[x * taps.count] + 1);
    const int pairs = (widest + 1) / 2;
    Windows windows{pairs, std::vector<int32_t>(size), std::vector<Lanes>(size_t(size) * pairs)};
    for (int x = 0; x < size; ++x) {
        const int32_t *index = taps.index.data() + x * taps.count;
        windows.start[x] = 3 * (index[0] - first_column);
        for (int tap = 0; tap < taps.used[x]; ++tap) {
            const int32_t place = index[tap] - index[0];
            const uint16_t weight = fixed_point(taps.weight[x * taps.count + tap]);
            for (int channel = 0; channel < 3; ++channel) windows.weights[x * pairs + place / 2][3 * (place % 2) + channel] = weight;
        }
    }
    return windows;
}

typedef float Point __attribute__((vector_size(16)));

#ifdef __SSE2__ // what the compiler does not find by itself
FACEMESH_INLINE Lanes high_product(Lanes a, Lanes b) { return Lanes(_mm_mulhi_epu16(__m128i(a), __m128i(b))); }
FACEMESH_INLINE Point joined(Lanes sum) { // the two pixels added
    const __m128i both = _mm_add_epi16(__m128i(sum), _mm_srli_si128(__m128i(sum), 6));
    return Point(_mm_cvtepi32_ps(_mm_unpacklo_epi16(both, _mm_setzero_si128())));
}
#else
FACEMESH_INLINE Lanes high_product(Lanes a, Lanes b) {
    typedef uint32_t Wide __attribute__((vector_size(32)));
    return __builtin_convertvector((__builtin_convertvector(a, Wide) * __builtin_convertvector(b, Wide)) >> 16, Lanes);
}
FACEMESH_INLINE Point joined(Lanes sum) {
    return Point{float(sum[0] + sum[3]), float(sum[1] + sum[4]), float(sum[2] + sum[5]), 0};
}
#endif

// Weighted sums of the pixels of one row, times gain, plus low; out: (size, 4), the fourth unused. PAIRS 0: any number.
template <int PAIRS>
FACEMESH_INLINE void weigh_columns(const uint16_t *row, const Windows &windows, int size, float low, float gain, float *out) {
    const int pairs = PAIRS ? PAIRS : windows.pairs;
    const int32_t *start = windows.start.data();
    const Lanes *weights = windows.weights.data();
    for (int x = 0; x < size; ++x, weights += pairs) {
        Lanes sum{};
        for (int pair = 0; pair < pairs; ++pair) {
            Lanes pixels;
            std::memcpy(&pixels, row + start[x] + 6 * pair, sizeof pixels);
            sum += high_product(pixels, weights[pair]);
        }
        const Point point = low + gain * joined(sum);
        std::memcpy(out + 4 * x, &point, sizeof point);
    }
}

FACEMESH_MULTIVERSION
void weigh_columns(const uint16_t *row, const Windows &windows, int size, float low, float gain, float *out) {
    switch (windows.pairs) {
    case 1: weigh_columns<1>(row, windows, size, low, gain, out); return;
    case 2: weigh_columns<2>(row, windows, size, low, gain, out); return;
    case 3: weigh_columns<3>(row, windows, size, low, gain, out); return;
    default: weigh_columns<0>(row, windows, size, low, gain, out); return;
    }
}

// (count, 4) -> three targets with `step` from pixel to pixel.
FACEMESH_MULTIVERSION
void split_channels(const float *pixels, int count, float *first, float *second, float *third, int step) {
    if (step == 1) {
#pragma omp simd
        for (int i = 0; i < count; ++i) {
            first[i] = pixels[4 * i];
            second[i] = pixels[4 * i + 1];
            third[i] = pixels[4 * i + 2];
        }
    } else {
        for (int i = 0; i < count; ++i) {
            first[i * step] = pixels[4 * i];
            second[i * step] = pixels[4 * i + 1];
            third[i * step] = pixels[4 * i + 2];
        }
    }
}

// (pixels, 3) -> three targets with `step` from pixel to pixel.
FACEMESH_MULTIVERSION
void finish_planes(const uint8_t *pixels, int count, float low, float gain, float *first, float *second, float *third, int step) {
#pragma omp simd
    for (int i = 0; i < count; ++i) {
        first[i * step] = low + gain * float(pixels[3 * i]);
        second[i * step] = low + gain * float(pixels[3 * i + 1]);
        third[i * step] = low + gain * float(pixels[3 * i + 2]);
    }
}

} // namespace

void finish_crop(const uint8_t *crop, const InputFormat &format, float *out) {
    const int pixels = format.size * format.size, step = format.channels_last ? 3 : 1;
    const ptrdiff_t plane = format.channels_last ? 1 : pixels;
    float *first = out, *third = out + 2 * plane;
    if (format.swap_colours) std::swap(first, third);
    finish_planes(crop, pixels, format.low, format.gain, first, out + plane, third, step);
}

void crop_axis_aligned(const uint8_t *image, int height, int width, int64_t row_stride, double s, double tx, double ty, int samples,
                       const InputFormat &format, float *out) {
    const int size = format.size, step = format.channels_last ? 3 : 1;
    const Taps columns = make_taps(size, samples, s, tx, width), rows = make_taps(size, samples, s, ty, height);
    std::vector<uint16_t> row_weights(rows.weight.size());
    for (size_t i = 0; i < row_weights.size(); ++i) row_weights[i] = fixed_point(rows.weight[i]);
    const auto [first, last] = std::minmax_element(columns.index.begin(), columns.index.end());
    const int32_t first_column = *first, length = 3 * (*last - first_column + 1);
    const Windows windows = make_windows(columns, size, first_column);

    // Channel c of the frame goes to plane c, or to plane 2 - c where colours are swapped.
    const ptrdiff_t plane = format.channels_last ? 1 : ptrdiff_t(size) * size;
    std::vector<float> pixels(4 * size_t(size));
    std::vector<uint16_t> blended(length + 6 * windows.pairs + 2); // windows may reach beyond the last pixel
    std::vector<const uint8_t *> sources(rows.count);
    for (int y = 0; y < size; ++y) {
        for (int tap = 0; tap < rows.count; ++tap) sources[tap] = image + rows.index[y * rows.count + tap] * row_stride + 3 * first_column;
        weigh_rows(sources.data(), row_weights.data() + y * rows.count, rows.used[y], length, blended.data());
        weigh_columns(blended.data(), windows, size, format.low, format.gain / 256, pixels.data());
        float *first_plane = out + ptrdiff_t(y) * size * step, *second_plane = first_plane + plane, *third_plane = second_plane + plane;
        if (format.swap_colours) std::swap(first_plane, third_plane);
        split_channels(pixels.data(), size, first_plane, second_plane, third_plane, step);
    }
}

} // namespace facemesh
