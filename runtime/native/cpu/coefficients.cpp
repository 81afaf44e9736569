#include "coefficients.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <type_traits>
#include <utility>

#include "simd.h"

#ifdef FACEMESH_X86_LEVELS
#include <immintrin.h>
#endif

namespace facemesh {
namespace {

constexpr int LANES = CoefficientDecoder::LANES, BLOCK = CoefficientDecoder::BLOCK;
constexpr int GROUPS = BLOCK / LANES;

// The numbers of one face: coefficients, and model units -> frame px.
struct Face {
    const float *coefficients; // (C,)
    float affine[12];          // (3, 4)
    float *vertices;           // (V, 3)
};

template <typename Stored> struct Sums {
    const Stored *basis; // (V / LANES, C, 3, LANES)
    const float *mean;   // (V / LANES, 3, LANES)
    const float *scales; // (V / BLOCK, C, 3) or nullptr
    int coefficient_count;
    size_t vertex_count;
    float *weights; // (2, C, 3), for coefficients times scales
    float *buffer;  // (C, 3, LANES)
};

namespace plain {
#define FACEMESH_VECTOR_BYTES 16
#include "coefficient_sums.h"
#undef FACEMESH_VECTOR_BYTES
} // namespace plain

#ifdef FACEMESH_X86_LEVELS
FACEMESH_BEGIN_AVX2
namespace avx2 {
#define FACEMESH_VECTOR_BYTES 32
#include "coefficient_sums.h"
#undef FACEMESH_VECTOR_BYTES
} // namespace avx2
FACEMESH_END_LEVEL

FACEMESH_BEGIN_AVX512
namespace avx512 {
#define FACEMESH_VECTOR_BYTES 64
#include "coefficient_sums.h"
#undef FACEMESH_VECTOR_BYTES
} // namespace avx512
FACEMESH_END_LEVEL
#endif

// By the longest vectors that the machine has, up to vector_bytes.
template <int FACES, typename Stored> void sum_faces(const Sums<Stored> &task, const Face *faces, int vector_bytes) {
#ifdef FACEMESH_X86_LEVELS
    if (vector_bytes >= 64 && has_avx512()) return avx512::sum_faces<FACES>(task, faces);
    if (vector_bytes >= 32 && has_avx2()) return avx2::sum_faces<FACES>(task, faces);
#else
    (void)vector_bytes;
#endif
    plain::sum_faces<FACES>(task, faces);
}

// Model units -> frame px: the pose, then crop px by the origin, then the inverse of the crop matrix.
void make_affine(const double *pose, const CoefficientFormat &format, const double *m, float *affine) {
    const double determinant = m[0] * m[4] - m[1] * m[3], scale = std::sqrt(std::fabs(determinant));
    const double xx = m[4] / determinant, xy = -m[1] / determinant, yx = -m[3] / determinant, yy = m[0] / determinant;
    double depth = 0, steepness = 0;
    for (int i = 0; i < 3; ++i) {
        depth -= pose[8 + i] * format.sphere[i];
        steepness += pose[8 + i] * pose[8 + i];
        affine[i] = float(xx * pose[i] - xy * pose[4 + i]);
        affine[4 + i] = float(yx * pose[i] - yy * pose[4 + i]);
        affine[8 + i] = float(pose[8 + i] / scale);
    }
    const double u = format.origin_x + pose[3] - m[2], v = format.origin_y - pose[7] - m[5];
    affine[3] = float(xx * u + xy * v);
    affine[7] = float(yx * u + yy * v);
    affine[11] = float((depth + std::sqrt(steepness) * format.sphere[3]) / scale);
}

} // namespace

CoefficientDecoder::CoefficientDecoder(CoefficientFormat format, const float *mean, const float *basis,
                                       size_t vertex_count, int bits, int vector_bytes)
    : format_(std::move(format)), vertex_count_(vertex_count),
      coefficient_count_(int(format_.mean.size()) - format_.pose_count), bits_(bits), vector_bytes_(vector_bytes) {
    const size_t groups = (vertex_count + LANES - 1) / LANES;
    mean_.resize(3 * LANES * groups);
    for (size_t vertex = 0; vertex < vertex_count; ++vertex) {
        for (int axis = 0; axis < 3; ++axis)
            mean_[(3 * (vertex / LANES) + axis) * LANES + vertex % LANES] = mean[3 * vertex + axis];
    }
    if (bits == 32) pack(basis, floats_, 0);
    if (bits == 16) pack(basis, shorts_, 32767);
    if (bits == 8) pack(basis, bytes_, 127);
}

// largest: the integer that the largest magnitude of a block becomes; 0: no scales.
template <typename Stored>
void CoefficientDecoder::pack(const float *basis, HugeVector<Stored> &packed, float largest) {
    const size_t count = size_t(coefficient_count_), groups = (vertex_count_ + LANES - 1) / LANES;
    packed.resize(groups * count * 3 * LANES);
    if (largest > 0) scales_.resize(3 * count * ((vertex_count_ + BLOCK - 1) / BLOCK));
    for (size_t first = 0; first < vertex_count_; first += BLOCK) {
        const size_t end = std::min(first + BLOCK, vertex_count_);
        for (size_t i = 0; i < 3 * count; ++i) {
            const size_t k = i / 3, axis = i % 3;
            float scale = 1;
            if (largest > 0) {
                float magnitude = 0;
                for (size_t vertex = first; vertex < end; ++vertex)
                    magnitude = std::max(magnitude, std::fabs(basis[(3 * vertex + axis) * count + k]));
                scale = scales_[3 * count * (first / BLOCK) + i] = magnitude / largest;
            }
            for (size_t vertex = first; vertex < end; ++vertex) {
                const float value = basis[(3 * vertex + axis) * count + k];
                const size_t place = (((vertex / LANES) * count + k) * 3 + axis) * LANES + vertex % LANES;
                if (largest > 0)
                    packed[place] = Stored(scale > 0 ? std::rint(value / scale) : 0);
                else
                    packed[place] = Stored(value);
            }
        }
    }
}

void CoefficientDecoder::decode(const float *outputs, const double *matrices, size_t faces,
                                float *const *vertices) const {
    std::vector<float> scratch(scratch_count());
    for (size_t start = 0; start < faces; start += 2) {
        const float *const pair[] = {outputs + number_count() * start, outputs + number_count() * (start + 1)};
        const double *const crops[] = {matrices + 6 * start, matrices + 6 * (start + 1)};
        decode_pair(pair, crops, vertices + start, int(std::min<size_t>(2, faces - start)), scratch.data());
    }
}

size_t CoefficientDecoder::scratch_count() const {
    // sum_faces by plain vectors alone needs the buffer.
    const bool has_buffer = vector_bytes_ < 32 || !has_wide_vectors();
    return size_t(coefficient_count_) * (8 + (has_buffer ? 3 * LANES : 0));
}

void CoefficientDecoder::decode_pair(const float *const *outputs, const double *const *matrices,
                                     float *const *vertices, int faces, float *scratch) const {
    const size_t count = size_t(coefficient_count_);
    float *const coefficients = scratch, *const weights = coefficients + 2 * count;
    Face both[2];
    for (int i = 0; i < faces; ++i) {
        const float *output = outputs[i];
        double pose[12];
        for (int j = 0; j < 12; ++j)
            pose[j] = format_.pose_count ? output[j] * format_.std[j] + format_.mean[j] : format_.fixed_pose[j];
        for (size_t k = 0; k < count; ++k) {
            const size_t number = format_.pose_count + k;
            coefficients[i * count + k] = float(output[number] * format_.std[number] + format_.mean[number]);
        }
        both[i].coefficients = coefficients + i * count;
        both[i].vertices = vertices[i];
        make_affine(pose, format_, matrices[i], both[i].affine);
    }
    const auto sum = [&](const auto &basis, const float *scales) {
        using Stored = typename std::decay_t<decltype(basis)>::value_type;
        const Sums<Stored> task{basis.data(),  mean_.data(), scales,       int(count),
                                vertex_count_, weights,      weights + 6 * count};
        faces == 2 ? sum_faces<2>(task, both, vector_bytes_) : sum_faces<1>(task, both, vector_bytes_);
    };
    if (bits_ == 32)
        sum(floats_, nullptr);
    else if (bits_ == 16)
        sum(shorts_, scales_.data());
    else
        sum(bytes_, scales_.data());
}

} // namespace facemesh
