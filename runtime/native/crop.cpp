#include "crop.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>
#include <vector>

#include "simd.h"

namespace facemesh {
namespace {

// Per output coordinate `count` source coordinates with weights that sum to 1; unused ones, and those outside the frame, have weight 0.
struct Taps {
    int count;
    std::vector<int32_t> index; // (size, count)
    std::vector<float> weight;  // (size, count)
};

// The bilinear samples of `samples` equal parts of every output pixel, neighbours that fall on the same source coordinate joined.
Taps make_taps(int size, int samples, double s, double t, int extent) {
    const int capacity = 2 * samples;
    std::vector<int32_t> index(size_t(size) * capacity, -1);
    std::vector<double> weight(size_t(size) * capacity, 0.0);
    int longest = 1;
    int32_t inside = 0; // any coordinate in use: what has weight 0 points there, so that it does not widen the range that is read
    for (int output = 0; output < size; ++output) {
        int32_t *indices = index.data() + output * capacity;
        double *weights = weight.data() + output * capacity;
        int used = 0;
        const auto add = [&](double coordinate, double part) {
            if (!(coordinate >= 0 && coordinate < extent)) return; // black outside the frame
            int tap = used; // source coordinates rise from sample to sample: an equal one is the last or the last but one
            for (int back = 1; back <= 2 && back <= used; ++back)
                if (indices[used - back] == int32_t(coordinate)) tap = used - back;
            if (tap == used) indices[used++] = inside = int32_t(coordinate);
            weights[tap] += part / samples;
        };
        for (int sample = 0; sample < samples; ++sample) {
            const double position = (output + (sample - (samples - 1) / 2.0) / samples - t) / s;
            const double left = std::floor(position), fraction = position - left;
            add(left, 1 - fraction);
            add(left + 1, fraction);
        }
        longest = std::max(longest, used);
    }
    Taps taps{longest + longest % 2, {}, {}}; // they are taken in pairs
    for (int output = 0; output < size; ++output) {
        for (int tap = 0; tap < taps.count; ++tap) {
            const int32_t *indices = index.data() + output * capacity;
            const bool is_used = tap < capacity && indices[tap] >= 0;
            taps.index.push_back(is_used ? indices[tap] : inside);
            taps.weight.push_back(is_used ? float(weight[output * capacity + tap]) : 0.0f);
        }
    }
    return taps;
}

// out = weighted sum of `row_count` (even) rows of `count` bytes, in 1/128: 16-bit lanes, the rounding is below 1/40 of a level.
// weights are in 1/32768.
FACEMESH_MULTIVERSION
void weigh_rows(const uint8_t *const *rows, const uint16_t *weights, int row_count, int count, uint16_t *out) {
    const auto product = [](uint8_t value, uint16_t weight) { return uint16_t((uint32_t(value << 8) * weight) >> 16); };
    for (int row = 0; row < row_count; row += 2) {
        const uint8_t *a = rows[row], *b = rows[row + 1];
        const uint16_t wa = weights[row], wb = weights[row + 1];
        if (row == 0) {
#pragma omp simd
            for (int i = 0; i < count; ++i) out[i] = uint16_t(product(a[i], wa) + product(b[i], wb));
        } else {
#pragma omp simd
            for (int i = 0; i < count; ++i) out[i] = uint16_t(out[i] + product(a[i], wa) + product(b[i], wb));
        }
    }
}

FACEMESH_MULTIVERSION
void to_values(const uint16_t *in, float gain, int count, float *out) {
#pragma omp simd
    for (int i = 0; i < count; ++i) out[i] = gain * float(in[i]);
}

typedef float Lanes __attribute__((vector_size(16))); // GCC and Clang, every platform: three channels and an unused fourth

// Weighted sums of the pixels of one row: target[x * step + channel * channel_step] = low + sum.
FACEMESH_MULTIVERSION
void weigh_columns(const float *row, const Taps &taps, int size, float low, float *target, int step, ptrdiff_t channel_step) {
    const int count = taps.count;
    const int32_t *offsets = taps.index.data();
    const float *weights = taps.weight.data();
    for (int x = 0; x < size; ++x, offsets += count, weights += count) {
        Lanes even = {low, low, low, low}, odd = {0, 0, 0, 0}; // two sums: their additions overlap
        for (int tap = 0; tap < count; tap += 2) {
            Lanes a, b;
            std::memcpy(&a, row + offsets[tap], sizeof a);
            std::memcpy(&b, row + offsets[tap + 1], sizeof b);
            even += weights[tap] * a;
            odd += weights[tap + 1] * b;
        }
        even += odd;
        for (int channel = 0; channel < 3; ++channel) target[x * step + channel * channel_step] = even[channel];
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
    Taps columns = make_taps(size, samples, s, tx, width);
    const Taps rows = make_taps(size, samples, s, ty, height);
    std::vector<uint16_t> row_weights(rows.weight.size());
    for (size_t i = 0; i < row_weights.size(); ++i) row_weights[i] = uint16_t(std::lround(32768 * rows.weight[i]));
    const auto [first, last] = std::minmax_element(columns.index.begin(), columns.index.end());
    const int32_t first_column = *first, count = 3 * (*last - *first + 1);
    for (int32_t &index : columns.index) index = 3 * (index - first_column);

    // Channel c of the frame goes to plane c, or to plane 2 - c where colours are swapped.
    const ptrdiff_t plane = format.channels_last ? 1 : ptrdiff_t(size) * size;
    float *first_plane = format.swap_colours ? out + 2 * plane : out;
    std::vector<uint16_t> blended(count);
    std::vector<float> values(count + 1); // the fourth lane of the last pixel
    std::vector<const uint8_t *> sources(rows.count);
    for (int y = 0; y < size; ++y) {
        for (int tap = 0; tap < rows.count; ++tap) sources[tap] = image + rows.index[y * rows.count + tap] * row_stride + 3 * first_column;
        weigh_rows(sources.data(), row_weights.data() + y * rows.count, rows.count, count, blended.data());
        to_values(blended.data(), format.gain / 128, count, values.data());
        weigh_columns(values.data(), columns, size, format.low, first_plane + ptrdiff_t(y) * size * step, step,
                      format.swap_colours ? -plane : plane);
    }
}

} // namespace facemesh
