#include "crop.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>
#include <vector>

#include "lanes.h"
#include "simd.h"

#ifdef FACEMESH_X86_LEVELS
#include <immintrin.h>
#endif

namespace facemesh {
namespace {

// Rows of the output to prefetch for: source rows are read in pieces too short for the processor to foresee the next.
constexpr int ROWS_AHEAD = 2;
constexpr float NOTHING = 1.0f / 131072; // half of 1/65536, to which weights are rounded in the end

// Per output coordinate a window of `count` neighbouring source coordinates from `start` on, all inside the frame, with
// weights that sum to 1, or less at the frame's border: black lies outside.
struct Filter {
    int capacity = 0;                  // the largest count
    std::vector<int32_t> start, count; // (size,)
    std::vector<float> weight;         // (size, capacity), 0 beyond count
    std::vector<float> beyond;         // weights of a window that the frame's border cuts
};

// The bilinear samples of `samples` equal parts of every output pixel; output coordinate = s * source coordinate + t.
void make_filter(int size, int samples, double s, double t, int extent, Filter &filter) {
    const double step = 1 / (samples * s), last_sample = (samples - 1) * step;
    const int reach = int(last_sample) + 3;
    filter.capacity = std::min(reach, extent);
    filter.start.assign(size_t(size), 0);
    filter.count.assign(size_t(size), 0);
    filter.weight.assign(size_t(size) * filter.capacity, 0.0f);
    std::vector<float> &beyond = filter.beyond;
    beyond.resize(size_t(reach));
    const float part = 1.0f / samples;
    for (int output = 0; output < size; ++output) {
        const double first = (output - t) / s - last_sample / 2;
        if (!(first > -1 - reach && first < extent)) continue;
        const int left = int(first + (reach + 2)) - (reach + 2); // rounded down, as first + reach + 2 is positive
        const bool is_inside = left >= 0 && left + reach <= extent;
        float *const kept = filter.weight.data() + size_t(output) * filter.capacity;
        float *const weights = is_inside ? kept : beyond.data();
        if (!is_inside) std::fill(beyond.begin(), beyond.end(), 0.0f);
        for (int sample = 0; sample < samples; ++sample) {
            const double position = first - left + sample * step;
            const int place = int(position);
            const float fraction = float(position - place);
            weights[place] += (1 - fraction) * part;
            weights[place + 1] += fraction * part;
        }
        int begin = std::max(0, -left), end = std::min(reach, extent - left);
        while (begin < end && weights[end - 1] < NOTHING) --end;
        while (begin < end && weights[begin] < NOTHING) ++begin;
        if (begin >= end) continue;
        filter.start[output] = left + begin;
        filter.count[output] = end - begin;
        if (!is_inside || begin > 0) std::copy(weights + begin, weights + end, kept);
    }
}

// 0..1 in 1/65536; 1 itself is one part less.
uint16_t fixed_point(float weight) { return uint16_t(std::min(65535.0f, 65536 * weight + 0.5f)); }

// out (+)= weighted sum of COUNT rows of `length` bytes, in 1/256: 16-bit lanes, each product is rounded by less than
// 1/256 of a level. Weights are in 1/65536.
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
void weigh_rows_plainly(const uint8_t *const *rows, const uint16_t *weights, int count, int length, uint16_t *out) {
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

#ifdef FACEMESH_X86_LEVELS
FACEMESH_BEGIN_AVX512
// The same, 64 bytes at a time; the last ones may overlap those before. length: at least 64.
template <int COUNT>
FACEMESH_INLINE void weigh_long_rows(const uint8_t *const *rows, const uint16_t *weights, int count, int length,
                                     uint16_t *out) {
    const int taps = COUNT ? COUNT : count;
    const __m512i zero = _mm512_setzero_si512();
    const __m512i left_order = _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11);
    const __m512i right_order = _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15);
    for (int next = 0; next < length; next += 64) {
        const int i = std::min(next, length - 64);
        __m512i low = zero, high = zero; // bytes 0..7 and 8..15 of each 16
        for (int tap = 0; tap < taps; ++tap) {
            const __m512i bytes = _mm512_loadu_si512(rows[tap] + i), weight = _mm512_set1_epi16(short(weights[tap]));
            low = _mm512_add_epi16(low, _mm512_mulhi_epu16(_mm512_unpacklo_epi8(zero, bytes), weight));
            high = _mm512_add_epi16(high, _mm512_mulhi_epu16(_mm512_unpackhi_epi8(zero, bytes), weight));
        }
        _mm512_storeu_si512(out + i, _mm512_permutex2var_epi64(low, left_order, high));
        _mm512_storeu_si512(out + i + 32, _mm512_permutex2var_epi64(low, right_order, high));
    }
}

void weigh_long_rows(const uint8_t *const *rows, const uint16_t *weights, int count, int length, uint16_t *out) {
    switch (count) {
    case 2: return weigh_long_rows<2>(rows, weights, count, length, out);
    case 3: return weigh_long_rows<3>(rows, weights, count, length, out);
    case 4: return weigh_long_rows<4>(rows, weights, count, length, out);
    case 5: return weigh_long_rows<5>(rows, weights, count, length, out);
    default: return weigh_long_rows<0>(rows, weights, count, length, out);
    }
}
FACEMESH_END_LEVEL
#endif

void weigh_rows(const uint8_t *const *rows, const uint16_t *weights, int count, int length, uint16_t *out) {
#ifdef FACEMESH_X86_LEVELS
    if (length >= 64 && has_avx512()) return weigh_long_rows(rows, weights, count, length, out);
#endif
    weigh_rows_plainly(rows, weights, count, length, out);
}

// The filter of the columns, two neighbouring pixels at a time: eight lanes are the channels of a pixel, those of the
// next one and two unused ones. Eight output pixels are a block, the last of which may overlap the one before: its
// pixels 0 and 4, 1 and 5, 2 and 6, 3 and 7 lie side by side. Where `is_blocked` is false, all are in their order.
struct PairedFilter {
    int pairs = 0;
    bool is_blocked = false;
    std::vector<int32_t> start; // (places,): offset of the first pixel in a row
    std::vector<Lanes> weights; // (places / 2, pairs, 2) or (places, pairs), in 1/65536
};

void pair_up(const Filter &filter, int size, int32_t first_column, bool is_blocked, PairedFilter &paired) {
    const int pairs = (*std::max_element(filter.count.begin(), filter.count.end()) + 1) / 2;
    const int places = is_blocked ? (size + 7) / 8 * 8 : size;
    paired.pairs = pairs;
    paired.is_blocked = is_blocked;
    paired.start.assign(size_t(places), 0);
    paired.weights.assign(size_t(places) * pairs, Lanes{});
    for (int place = 0; place < places; ++place) {
        const int in_block = place % 8;
        const int x = is_blocked ? std::min(place - in_block, size - 8) + in_block / 2 + 4 * (in_block % 2) : place;
        if (filter.count[x] == 0) continue;
        paired.start[place] = 3 * (filter.start[x] - first_column);
        Lanes *weights = paired.weights.data();
        weights += is_blocked ? place / 2 * 2 * pairs + place % 2 : place * pairs;
        for (int tap = 0; tap < filter.count[x]; ++tap) {
            const uint16_t weight = fixed_point(filter.weight[x * filter.capacity + tap]);
            Lanes &lanes = weights[tap / 2 * (is_blocked ? 2 : 1)];
            for (int channel = 0; channel < 3; ++channel) lanes[3 * (tap % 2) + channel] = weight;
        }
    }
}

// One row of the network's input: three targets with `step` from pixel to pixel.
struct Target {
    float *first, *second, *third;
    int step;
};

// Weighted sums of the pixels of one row, times gain, plus low. PAIRS 0: any number.
template <int PAIRS>
FACEMESH_INLINE void weigh_columns(const uint16_t *row, const PairedFilter &filter, int size, float low, float gain,
                                   const Target &target) {
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
void weigh_columns_plainly(const uint16_t *row, const PairedFilter &filter, int size, float low, float gain,
                           const Target &target) {
    switch (filter.pairs) {
    case 1: return weigh_columns<1>(row, filter, size, low, gain, target);
    case 2: return weigh_columns<2>(row, filter, size, low, gain, target);
    case 3: return weigh_columns<3>(row, filter, size, low, gain, target);
    default: return weigh_columns<0>(row, filter, size, low, gain, target);
    }
}

#ifdef FACEMESH_X86_LEVELS
FACEMESH_BEGIN_AVX2
FACEMESH_INLINE __m256i side_by_side(const uint16_t *low, const uint16_t *high) {
    const __m128i first = _mm_loadu_si128((const __m128i *)low), second = _mm_loadu_si128((const __m128i *)high);
    return _mm256_inserti128_si256(_mm256_castsi128_si256(first), second, 1);
}

// The same for planes and a blocked filter, eight pixels at a time.
template <int PAIRS>
FACEMESH_INLINE void weigh_blocks(const uint16_t *row, const PairedFilter &filter, int size, float low, float gain,
                                  const Target &target) {
    const int pairs = PAIRS ? PAIRS : filter.pairs;
    const __m256 lows = _mm256_set1_ps(low), gains = _mm256_set1_ps(gain);
    const auto store = [&](float *out, __m128i numbers) __attribute__((always_inline, target("avx2,fma"))) {
        const __m256 values = _mm256_cvtepi32_ps(_mm256_cvtepu16_epi32(numbers));
        _mm256_storeu_ps(out, _mm256_fmadd_ps(gains, values, lows));
    };
    const int32_t *start = filter.start.data();
    const Lanes *weights = filter.weights.data();
    for (int next = 0; next < size; next += 8) {
        __m256i sums[4]; // of two pixels, a channel is 16 bits
        for (__m256i &sum : sums) {
            sum = _mm256_setzero_si256();
            for (int pair = 0; pair < pairs; ++pair, weights += 2) {
                const __m256i colours = side_by_side(row + start[0] + 6 * pair, row + start[1] + 6 * pair);
                const __m256i weight = _mm256_loadu_si256((const __m256i *)weights);
                sum = _mm256_add_epi16(sum, _mm256_mulhi_epu16(colours, weight));
            }
            sum = _mm256_add_epi16(sum, _mm256_srli_si256(sum, 6));
            start += 2;
        }
        const __m256i left = _mm256_unpacklo_epi16(sums[0], sums[1]), right = _mm256_unpacklo_epi16(sums[2], sums[3]);
        const __m256i first_second = _mm256_permute4x64_epi64(_mm256_unpacklo_epi32(left, right), 0xd8);
        const __m256i third = _mm256_permute4x64_epi64(_mm256_unpackhi_epi32(left, right), 0xd8);
        const int x = std::min(next, size - 8);
        store(target.first + x, _mm256_castsi256_si128(first_second));
        store(target.second + x, _mm256_extracti128_si256(first_second, 1));
        store(target.third + x, _mm256_castsi256_si128(third));
    }
}

void weigh_blocks(const uint16_t *row, const PairedFilter &filter, int size, float low, float gain,
                  const Target &target) {
    switch (filter.pairs) {
    case 1: return weigh_blocks<1>(row, filter, size, low, gain, target);
    case 2: return weigh_blocks<2>(row, filter, size, low, gain, target);
    case 3: return weigh_blocks<3>(row, filter, size, low, gain, target);
    default: return weigh_blocks<0>(row, filter, size, low, gain, target);
    }
}
FACEMESH_END_LEVEL
#endif

void weigh_columns(const uint16_t *row, const PairedFilter &filter, int size, float low, float gain,
                   const Target &target) {
#ifdef FACEMESH_X86_LEVELS
    if (filter.is_blocked) return weigh_blocks(row, filter, size, low, gain, target);
#endif
    weigh_columns_plainly(row, filter, size, low, gain, target);
}

// (pixels, 3) -> three targets with `step` from pixel to pixel.
FACEMESH_MULTIVERSION
void finish_planes(const uint8_t *pixels, int count, float low, float gain, float *first, float *second, float *third,
                   int step) {
#pragma omp simd
    for (int i = 0; i < count; ++i) {
        first[i * step] = low + gain * float(pixels[3 * i]);
        second[i * step] = low + gain * float(pixels[3 * i + 1]);
        third[i * step] = low + gain * float(pixels[3 * i + 2]);
    }
}

} // namespace

struct CropMemory::Tables {
    Filter columns, rows;
    PairedFilter paired;
    std::vector<uint16_t> blended, weights;
    std::vector<const uint8_t *> sources;
};

CropMemory::CropMemory() : tables_(std::make_unique<Tables>()) {}
CropMemory::CropMemory(CropMemory &&) noexcept = default;
CropMemory::~CropMemory() = default;

void finish_crop(const uint8_t *crop, const InputFormat &format, float *out) {
    const int pixels = format.size * format.size, step = format.channels_last ? 3 : 1;
    const ptrdiff_t plane = format.channels_last ? 1 : pixels;
    float *first = out, *third = out + 2 * plane;
    if (format.swap_colours) std::swap(first, third);
    finish_planes(crop, pixels, format.low, format.gain, first, out + plane, third, step);
}

void crop_axis_aligned(const uint8_t *image, int height, int width, int64_t row_stride, double s, double tx, double ty,
                       int samples, const InputFormat &format, float *out) {
    CropMemory memory;
    crop_axis_aligned(image, height, width, row_stride, s, tx, ty, samples, format, out, memory);
}

void crop_axis_aligned(const uint8_t *image, int height, int width, int64_t row_stride, double s, double tx, double ty,
                       int samples, const InputFormat &format, float *out, CropMemory &memory) {
    const int size = format.size, step = format.channels_last ? 3 : 1;
    auto &[columns, rows, paired, blended, weights, sources] = memory.tables();
    make_filter(size, samples, s, tx, width, columns);
    make_filter(size, samples, s, ty, height, rows);

    // The part of a row that any column of the crop needs.
    int32_t first_column = width, end_column = 0;
    for (int x = 0; x < size; ++x) {
        if (columns.count[x] == 0) continue;
        first_column = std::min(first_column, columns.start[x]);
        end_column = std::max(end_column, columns.start[x] + columns.count[x]);
    }
    const int length = 3 * std::max(0, end_column - first_column);
    const uint8_t *origin = image + 3 * ptrdiff_t(first_column);
    pair_up(columns, size, first_column, step == 1 && size >= 8 && has_wide_vectors(), paired);

    // Channel c of the frame goes to plane c, or to plane 2 - c where colours are swapped.
    const ptrdiff_t plane = format.channels_last ? 1 : ptrdiff_t(size) * size;
    blended.assign(size_t(length + 6 * paired.pairs + 2), 0); // pairs may reach beyond the last pixel
    sources.resize(size_t(rows.capacity));
    weights.resize(size_t(rows.capacity));
    int64_t fetched = 0; // rows of the frame below this one are on their way from memory
    for (int y = 0; y < size; ++y) {
        // Fetch the source rows of the crop rows that follow.
        const int ahead = std::min(y + ROWS_AHEAD, size - 1);
        const int64_t needed = rows.start[ahead] + rows.count[ahead];
        for (fetched = std::max(fetched, int64_t(rows.start[y])); fetched < needed; ++fetched) {
            for (int byte = 0; byte < length; byte += 64) __builtin_prefetch(origin + fetched * row_stride + byte);
        }

        // Blend the source rows of this crop row, then its columns.
        int used = 0;
        for (int tap = 0; tap < rows.count[y]; ++tap) {
            const uint16_t weight = fixed_point(rows.weight[y * rows.capacity + tap]);
            if (weight == 0) continue;
            weights[used] = weight;
            sources[used++] = origin + (rows.start[y] + tap) * row_stride;
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
