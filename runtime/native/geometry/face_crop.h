// The crop of a face by any similarity: antialiased and normalised. See runtime/geometry/crop.py, crop_into.
#pragma once

#include <cstdint>
#include <vector>

#include "cpu/crop.h"
#include "geometry/similarity.h"

namespace facemesh {

struct Picture {
    const uint8_t *pixels; // (height, width, 3)
    int height, width;
    int64_t row_stride; // bytes
    bool is_rgb;
};

// True for a matrix whose crop is bounded in memory: finite, not singular, no extreme scale.
bool is_sound(const Matrix &matrix);

// Memory that crops of one side share.
class FaceCropper {
  public:
    // out: (3, size, size) or (size, size, 3). The matrix is sound.
    void operator()(const Picture &picture, const Matrix &matrix, const InputFormat &format, float *out);

  private:
    void turn(const Picture &picture, const Matrix &matrix, const InputFormat &format, float *out);

    CropMemory memory_;
    std::vector<float> upright_;
    std::vector<uint8_t> warped_;
};

// Turns a picture of bytes: out (height, width, 3) pixel = bilinear sample of the picture at inverse(matrix) of its
// place, black outside.
void warp_bytes(const Picture &picture, const Matrix &matrix, int width, int height, uint8_t *out);

} // namespace facemesh
