#include "crop.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>
#include <vector>

#include "simd.h"

#ifdef __SSE2__
#include <emmintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace facemesh {
namespace {

constexpr int ROWS_AHEAD = 2; // of the output: a row is read in pieces too short for the processor to foresee the next one
constexpr float NOTHING = 1.0f / 131072; // weights are rounded to 1/65536 in the end

// Per output coordinate a window of `count` neighbouring source coordinates from `start` on, all inside the frame, with weights that sum
// to 1, or less at the frame's border: black lies outside.
struct Filter {
    int capacity; // the largest count
    std::vector<int32_t> start, count; // (size,)
    std::vector<float> weight;         // (size, capacity), 0 beyond count
};

// The bilinear samples of `samples` equal parts of every output pixel; output coordinate = s * source coordinate + t.
Filter make_filter(int size, int samples, double s, double t, int extent) {
    const double step = 1 / (samples * s), last_sample = (samples - 1) * step;
    const int reach = int(last_sample) + 3;
    Filter filter{std::min(reach, extent), std::vector<int32_t>(size), std::vector<int32_t>(size), {}};
    filter.weight.resize(size_t(size) * filter.capacity);
    std::vector<float> weights(reach);
    const float part = 1.0f / samples;
    for (int output = 0; output < size; ++output) {
        const double first = (output - t) / s - last_sample / 2, left = std::floor(first);
        if (!(left > -1 - reach && left < extent)) continue;
        std::fill(weights.begin(), weights.end(), 0.0f);
        for (int sample = 0; sample < samples; ++sample) {
            const double position = first - left + sample * step;
            const int place = int(position);
            const float fraction = float(position - place);
            weights[place] += (1 - fraction) * part;
            weights[place + 1] += fraction * part;
        }
        int begin = std::max(0, -int(left)), end = std::min(reach, extent - int(left));
        while (begin < end && weights[end - 1] < NOTHING) --end;
        while (begin < end && weights[begin] < NOTHING) ++begin;
        if (begin >= end) continue;
        filter.start[output] = int32_t(left) + begin;
        filter.count[output] = end - begin;
        std::copy(weights.begin() + begin, weights.begin() + end, filter.weight.begin() + output * filter.capacity);
    }
    return filter;
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

// The filter of the columns, two neighbouring pixels at a time: eight lanes are the channels of a pixel, those of the next one and two
// unused ones.
typedef uint16_t Lanes __attribute__((vector_size(16))); // GCC and Clang, every platform

struct PairedFilter {
    int pairs;
    std::vector<int32_t> start; // (size,): offset of the first pixel in a row
    std::vector<Lanes> weights; // (size, pairs), in 1/65536
};

PairedFilter pair_up(const Filter &filter, int size, int32_t first_column) {
    const int pairs = (*std::max_element(filter.count.begin(), filter.count.end()) + 1) / 2;
    PairedFilter paired{pairs, std::vector<int32_t>(size), std::vector<Lanes>(size_t(size) * pairs)};
    for (int x = 0; x < size; ++x) {
        if (filter.count[x] == 0) continue;
        paired.start[x] = 3 * (filter.start[x] - first_column);
        for (int tap = 0; tap < filter.count[x]; ++tap) {
            const uint16_t weight = fixed_point(filter.weight[x * filter.capacity + tap]);
            Lanes &lanes = paired.weights[x * pairs + tap / 2];
            for (int channel = 0; channel < 3; ++channel) lanes[3 * (tap % 2) + channel] = weight;
        }
    }
    return paired;
}

typedef float Point __attribute__((vector_size(16)));

#ifdef __SSE2__ // what the compiler does not find by itself
FACEMESH_INLINE Lanes high_product(Lanes a, Lanes b) { return Lanes(_mm_mulhi_epu16(__m128i(a), __m128i(b))); }
FACEMESH_INLINE Point joined(Lanes sum) { // the two pixels added
    const __m128i both = _mm_add_epi16(__m128i(sum), _mm_srli_si128(__m128i(sum), 6));
    return Point(_mm_cvtepi32_ps(_mm_unpacklo_epi16(both, _mm_setzero_si128())));
}
FACEMESH_INLINE void transpose(Point &a, Point &b, Point &c, Point &d) {
    __m128 rows[4] = {__m128(a), __m128(b), __m128(c), __m128(d)};
    _MM_TRANSPOSE4_PS(rows[0], rows[1], rows[2], rows[3]);
    a = Point(rows[0]), b = Point(rows[1]), c = Point(rows[2]), d = Point(rows[3]);
}
#elif defined(__aarch64__)
FACEMESH_INLINE Lanes high_product(Lanes a, Lanes b) {
    const uint16x8_t x = uint16x8_t(a), y = uint16x8_t(b);
    const uint32x4_t low = vmull_u16(vget_low_u16(x), vget_low_u16(y)), high = vmull_high_u16(x, y);
    return Lanes(vuzp2q_u16(vreinterpretq_u16_u32(low), vreinterpretq_u16_u32(high)));
}
FACEMESH_INLINE Point joined(Lanes sum) {
    const uint16x8_t both = vaddq_u16(uint16x8_t(sum), vextq_u16(uint16x8_t(sum), uint16x8_t(sum), 3));
    return Point(vcvtq_f32_u32(vmovl_u16(vget_low_u16(both))));
}
FACEMESH_INLINE void transpose(Point &a, Point &b, Point &c, Point &d) { // what d would hold is unused
    const float64x2_t low_ab = vreinterpretq_f64_f32(vzip1q_f32(float32x4_t(a), float32x4_t(b)));
    const float64x2_t low_cd = vreinterpretq_f64_f32(vzip1q_f32(float32x4_t(c), float32x4_t(d)));
    const float64x2_t high_ab = vreinterpretq_f64_f32(vzip2q_f32(float32x4_t(a), float32x4_t(b)));
    const float64x2_t high_cd = vreinterpretq_f64_f32(vzip2q_f32(float32x4_t(c), float32x4_t(d)));
    a = Point(vreinterpretq_f32_f64(vzip1q_f64(low_ab, low_cd)));
    b = Point(vreinterpretq_f32_f64(vzip2q_f64(low_ab, low_cd)));
    c = Point(vreinterpretq_f32_f64(vzip1q_f64(high_ab, high_cd)));
}
#else
FACEMESH_INLINE Lanes high_product(Lanes a, Lanes b) {
    typedef uint32_t Wide __attribute__((vector_size(32)));
    return __builtin_convertvector((__builtin_convertvector(a, Wide) * __builtin_convertvector(b, Wide)) >> 16, Lanes);
}
FACEMESH_INLINE Point joined(Lanes sum) { return Point{float(sum[0] + sum[3]), float(sum[1] + sum[4]), float(sum[2] + sum[5]), 0}; }
FACEMESH_INLINE void transpose(Point &a, Point &b, Point &c, Point &d) {
    const Point first = {a[0], b[0], c[0], d[0]}, second = {a[1], b[1], c[1], d[1]}, third = {a[2], b[2], c[2], d[2]};
    a = first, b = second, c = third;
}
#endif

// One row of the network's input: three targets with `step` from pixel to pixel.
struct Target {
    float *first, *second, *third;
    int step;
};

// Weighted sums of the pixels of one row, times gain, plus low. PAIRS 0: any number.
template <int PAIRS>
FACEMESH_INLINE void weigh_columns(const uint16_t *row, const PairedFilter &filter, int size, float low, float gain, const Target &target) {
    const int pairs = PAIRS ? PAIRS : filter.pairs;
    const int32_t *start = filter.start.data();
    const Lanes *weights = filter.weights.data();
    const auto pixel = [&](int x) __attribute__((always_inline)) {
        Lanes sum{};
        for (int pair = 0; pair < pairs; ++pair) {
            Lanes colours;
            std::memcpy(&colours, row + start[x] + 6 * pair, sizeof colours);
            sum += high_product(colours, weights[x * pairs + pair]);
        }
        return low + gain * joined(sum);
    };
    int x = 0;
    if (target.step == 1) {
        for (; x + 4 <= size; x += 4) {
            Point a = pixel(x), b = pixel(x + 1), c = pixel(x + 2), d = pixel(x + 3);
            transpose(a, b, c, d);
            std::memcpy(target.first + x, &a, sizeof a);
            std::memcpy(target.second + x, &b, sizeof b);
            std::memcpy(target.third + x, &c, sizeof c);
        }
    }
    for (; x < size; ++x) {
        const Point point = pixel(x);
        target.first[x * target.step] = point[0];
        target.second[x * target.step] = point[1];
        target.third[x * target.step] = point[2];
    }
}

FACEMESH_MULTIVERSION
void weigh_columns(const uint16_t *row, const PairedFilter &filter, int size, float low, float gain, const Target &target) {
    switch (filter.pairs) {
    case 1: weigh_columns<1>(row, filter, size, low, gain, target); return;
    case 2: weigh_columns<2>(row, filter, size, low, gain, target); return;
    case 3: weigh_columns<3>(row, filter, size, low, gain, target); return;
    default: weigh_columns<0>(row, filter, size, low, gain, target); return;
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
    const Filter columns = make_filter(size, samples, s, tx, width), rows = make_filter(size, samples, s, ty, height);
    int32_t first_column = width, end_column = 0;
    for (int x = 0; x < size; ++x) {
        if (columns.count[x] == 0) continue;
        first_column = std::min(first_column, columns.start[x]);
        end_column = std::max(end_column, columns.start[x] + columns.count[x]);
    }
    const int length = 3 * std::max(0, end_column - first_column);
    const PairedFilter paired = pair_up(columns, size, first_column);

    // Channel c of the frame goes to plane c, or to plane 2 - c where colours are swapped.
    const ptrdiff_t plane = format.channels_last ? 1 : ptrdiff_t(size) * size;
    std::vector<uint16_t> blended(length + 6 * paired.pairs + 2); // pairs may reach beyond the last pixel
    std::vector<const uint8_t *> sources(rows.capacity);
    std::vector<uint16_t> weights(rows.capacity);
    int64_t fetched = 0; // rows of the frame below this one are on their way from memory
    for (int y = 0; y < size; ++y) {
        const int ahead = std::min(y + ROWS_AHEAD, size - 1);
        for (fetched = std::max(fetched, int64_t(rows.start[y])); fetched < rows.start[ahead] + rows.count[ahead]; ++fetched)
            for (int byte = 0; byte < length; byte += 64) __builtin_prefetch(image + fetched * row_stride + 3 * ptrdiff_t(first_column) + byte);
        int used = 0;
        for (int tap = 0; tap < rows.count[y]; ++tap) {
            const uint16_t weight = fixed_point(rows.weight[y * rows.capacity + tap]);
            if (weight == 0) continue;
            weights[used] = weight;
            sources[used++] = image + (rows.start[y] + tap) * row_stride + 3 * ptrdiff_t(first_column);
        }
        weigh_rows(sources.data(), weights.data(), used, length, blended.data());
        Target target{out + ptrdiff_t(y) * size * step, nullptr, nullptr, step};
        target.second = target.first + plane;
        target.third = target.second + plane;
        if (format.swap_colours) std::swap(target.first, target.third);
        weigh_columns(blended.data(), paired, size, format.low, format.gain / 256, target);
    }
}

} // namespace facemesh
