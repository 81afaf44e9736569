// Vectors of 16 bytes and the operations on them that the compiler does not find by itself.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "simd.h"

#ifdef __SSE2__
#include <emmintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace facemesh {

typedef uint16_t Lanes __attribute__((vector_size(16))); // GCC and Clang, every platform
typedef float Point __attribute__((vector_size(16)));

#ifdef __SSE2__
FACEMESH_INLINE Lanes high_product(Lanes a, Lanes b) { return Lanes(_mm_mulhi_epu16(__m128i(a), __m128i(b))); }
FACEMESH_INLINE Point joined(Lanes sum) { // the two pixels added
    const __m128i both = _mm_add_epi16(__m128i(sum), _mm_srli_si128(__m128i(sum), 6));
    return Point(_mm_cvtepi32_ps(_mm_unpacklo_epi16(both, _mm_setzero_si128())));
}
FACEMESH_INLINE Point widened(uint32_t bytes) { // four numbers 0..255
    const __m128i zero = _mm_setzero_si128(), pairs = _mm_unpacklo_epi8(_mm_cvtsi32_si128(int(bytes)), zero);
    return Point(_mm_cvtepi32_ps(_mm_unpacklo_epi16(pairs, zero)));
}
FACEMESH_INLINE uint32_t narrowed(Point point) { // rounded, half to even
    const __m128i words = _mm_packs_epi32(_mm_cvtps_epi32(__m128(point)), _mm_setzero_si128());
    return uint32_t(_mm_cvtsi128_si32(_mm_packus_epi16(words, words)));
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
FACEMESH_INLINE Point widened(uint32_t bytes) {
    const uint16x8_t pairs = vmovl_u8(vreinterpret_u8_u32(vdup_n_u32(bytes)));
    return Point(vcvtq_f32_u32(vmovl_u16(vget_low_u16(pairs))));
}
FACEMESH_INLINE uint32_t narrowed(Point point) {
    const uint16x4_t words = vqmovn_u32(vcvtnq_u32_f32(float32x4_t(point)));
    return vget_lane_u32(vreinterpret_u32_u8(vqmovn_u16(vcombine_u16(words, words))), 0);
}
FACEMESH_INLINE void transpose(Point &a, Point &b, Point &c, Point &d) { // leaves d alone, which is not used
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
FACEMESH_INLINE Point joined(Lanes sum) {
    return Point{float(sum[0] + sum[3]), float(sum[1] + sum[4]), float(sum[2] + sum[5]), 0};
}
FACEMESH_INLINE Point widened(uint32_t bytes) {
    uint8_t each[4];
    std::memcpy(each, &bytes, sizeof each);
    return Point{float(each[0]), float(each[1]), float(each[2]), float(each[3])};
}
FACEMESH_INLINE uint32_t narrowed(Point point) {
    uint8_t each[4];
    for (int i = 0; i < 4; ++i) each[i] = uint8_t(std::nearbyint(point[i]));
    uint32_t bytes;
    std::memcpy(&bytes, each, sizeof bytes);
    return bytes;
}
FACEMESH_INLINE void transpose(Point &a, Point &b, Point &c, Point &d) {
    const Point first = {a[0], b[0], c[0], d[0]}, second = {a[1], b[1], c[1], d[1]}, third = {a[2], b[2], c[2], d[2]};
    a = first, b = second, c = third;
}
#endif

} // namespace facemesh
