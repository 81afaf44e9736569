// Coefficients of a linear face model -> vertices in frame pixels.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "huge_pages.h"

namespace facemesh {

// One network's output: pose numbers, then coefficients of the face model, all whitened.
struct CoefficientFormat {
    int pose_count;                // 12: a (3, 4) matrix, model units -> crop px with y upwards; 0: fixed_pose holds it
    std::vector<double> mean, std; // (pose_count + C,) number = output * std + mean
    double fixed_pose[12];
    double origin_x, origin_y; // crop px of the point (0, 0) that the pose maps to
    double sphere[4]; // centre and radius of the mean face, model units: z is counted from the sphere's far side
};

// The basis as the decoder holds it; decode() is const and may run on several threads.
class CoefficientDecoder {
  public:
    // mean: (V, 3), basis: (3V, C), model units. bits: 32 keeps the basis as it is; 16 and 8 round it to integers that
    // share a scale in blocks of BLOCK vertices, per axis and coefficient.
    // vector_bytes: the longest vectors to use, 64 for what the machine has.
    CoefficientDecoder(CoefficientFormat format, const float *mean, const float *basis, size_t vertex_count, int bits,
                       int vector_bytes);

    // outputs: (faces, number_count); matrices: (faces, 2, 3) row-major similarities, frame px -> crop px, not
    // singular; vertices: one (V, 3) per face, frame px.
    void decode(const float *outputs, const double *matrices, size_t faces, float *const *vertices) const;

    // The same for one or two faces, in memory of the caller's: scratch_count() floats.
    void decode_pair(const float *const *outputs, const double *const *matrices, float *const *vertices, int faces,
                     float *scratch) const;
    size_t scratch_count() const;

    size_t vertex_count() const { return vertex_count_; }
    size_t number_count() const { return format_.mean.size(); }

    static constexpr int LANES = 32, BLOCK = 64;

  private:
    template <typename Stored> void pack(const float *basis, HugeVector<Stored> &packed, float largest);

    CoefficientFormat format_;
    size_t vertex_count_;
    int coefficient_count_, bits_, vector_bytes_;
    std::vector<float> mean_;   // (V / LANES, 3, LANES)
    std::vector<float> scales_; // (V / BLOCK, C, 3); empty for 32 bits
    HugeVector<float> floats_;  // (V / LANES, C, 3, LANES), one of these three
    HugeVector<int16_t> shorts_;
    HugeVector<int8_t> bytes_;
};

} // namespace facemesh
