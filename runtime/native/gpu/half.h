// IEEE half precision as its 16 bits, on the host and on the device.
#pragma once

#include <cstdint>
#include <cstring>

#ifdef __CUDACC__
#include <cuda_fp16.h>
#define FACEMESH_HD __host__ __device__
#else
#define FACEMESH_HD
#endif

namespace facemesh {

inline FACEMESH_HD float float_from_half(uint16_t half) {
#ifdef __CUDA_ARCH__
    return __half2float(__ushort_as_half(half));
#else
    const uint32_t sign = uint32_t(half & 0x8000u) << 16, rest = half & 0x7fffu;
    // A new exponent bias; infinity and NaN keep theirs.
    uint32_t bits = (rest << 13) + 0x38000000u + (rest >= 0x7c00u ? 0x38000000u : 0u);
    float value = float(rest) * 5.9604644775390625e-08f; // subnormal: rest * 2^-24
    if (rest < 0x400u) std::memcpy(&bits, &value, sizeof bits);
    bits |= sign;
    std::memcpy(&value, &bits, sizeof value);
    return value;
#endif
}

// To the nearest, ties to even.
inline FACEMESH_HD uint16_t half_from_float(float value) {
#ifdef __CUDA_ARCH__
    return __half_as_ushort(__float2half_rn(value));
#else
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    const uint32_t sign = (bits >> 16) & 0x8000u;
    bits &= 0x7fffffffu;
    if (bits > 0x7f800000u) return uint16_t(sign | 0x7e00u);  // NaN
    if (bits >= 0x47800000u) return uint16_t(sign | 0x7c00u); // 65536 and beyond
    if (bits < 0x38800000u) { // subnormal: one half's lowest places are 2^-24, so the addition rounds
        std::memcpy(&value, &bits, sizeof value);
        value += 0.5f;
        std::memcpy(&bits, &value, sizeof bits);
        return uint16_t(sign | (bits - 0x3f000000u));
    }
    return uint16_t(sign | ((bits - 0x38000000u + 0xfffu + ((bits >> 13) & 1u)) >> 13));
#endif
}

} // namespace facemesh
