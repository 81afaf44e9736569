// The common part of the kernels' bodies, crop_body.h, decode_body.h, coefficients_body.h and face_rows_body.h: the
// work of one GPU thread. The host runs the same lines in loops, so that tests without a GPU test this arithmetic.
//
// Consumer GPUs run double precision at 1/64 of the rate: it is used a dozen times per block, for what float cannot
// hold, and never per pixel. Positions are relative to a point of the face, so that float holds them to 1e-4 px
// wherever the face is in the frame.
#pragma once

#include <math.h> // of C: on the device its functions have no namespace either
#include <stdlib.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "half.h"

namespace facemesh {

struct Triple {
    float values[3];
};

constexpr int THREADS_OF_A_BLOCK = 256;

inline FACEMESH_HD int block_count(int items) { return (items + THREADS_OF_A_BLOCK - 1) / THREADS_OF_A_BLOCK; }

// (height, width, 3) BGR, row_stride bytes from row to row; on a 4-byte boundary, its rows need not be.
struct FrameView {
    const uint8_t *pixels;
    int32_t height, width;
    int32_t row_stride; // height * row_stride is below 2^31
};

struct CropTask {
    FrameView frame;
    const FrameView *view;  // where it is not null it is read in place of `frame`: a graph may outlive a frame's size
    const double *matrices; // (faces, 2, 3), frame px -> crop px
    int faces;
    // (faces, 3, height, width) or (faces, height, width, 3) float, or half; (faces, 4, height, width) with landmarks
    void *out;
    const float *landmarks; // (faces, 68, 3) frame px, for a landmark channel behind the colours; null: there is none
    int width, height;
    bool channels_last, swap_colours;
    float low, gain; // value = low + colour * gain for colour 0..255
    bool half;
};

struct DecodeTask {
    const void *map; // (faces, 3, map_size, map_size) or (faces, map_size, map_size, 3) float, or half
    bool half;
    int map_size;
    bool channels_last;
    float scale;            // map value * scale = crop px
    const double *matrices; // (faces, 2, 3), frame px -> crop px
    int faces;
    const int32_t *indices; // (count,) pixels of the resolution x resolution grid
    int count, resolution;
    float *out;          // (faces, count, 3) frame px
    uint8_t *not_finite; // (faces, block_count(count)) marks: 1 where a block of points has one that is not finite
};

constexpr int MAX_COEFFICIENTS = 512; // of the face model, for one network: they lie in shared memory
constexpr int FACES_AT_A_TIME = 4;    // that share a read of the basis: three sums for each lie in registers

struct CoefficientTask {
    const void *output; // (faces, pose_count + coefficient_count) float, or half
    bool half;
    int pose_count; // 12 or 0
    int coefficient_count;
    // mean and std of all numbers, a pose (3, 4) for pose_count 0, origin x and y, centre and radius of the mean face
    const float *constants;
    const float *mean; // (3, count) model units
    const void *basis; // (coefficient_count, 3, count) float, or half
    bool basis_half;
    const double *matrices; // (faces, 2, 3), frame px -> crop px
    int faces;
    int count;           // of points
    float *out;          // (faces, count, 3) frame px
    uint8_t *not_finite; // (faces, block_count(count)) marks, as in DecodeTask
};

constexpr int YUNET_LEVELS = 3, FIRST_STRIDE = 8; // the next ones are 16 and 32
constexpr int LARGEST_STRIDE = FIRST_STRIDE << (YUNET_LEVELS - 1);

// A face as YuNet says it at one place, px of its input; place: in the order of levels, rows and columns.
struct FaceRow {
    float box[4], points[10], score; // x, y, w, h and five points (x, y)
    int32_t place;
};

struct FaceRowTask {
    const void *levels[YUNET_LEVELS]; // (16, height / stride, width / stride) float, or half
    bool half;
    int width, height; // of the network's input, multiples of the largest stride
    float threshold;   // a row scores at least this much
    float least_logit; // and so do the logits of both its probabilities
    int most;
    int32_t *count; // of the places that pass, added to what is there; may exceed `most`
    FaceRow *rows;  // the first `most` of them, in any order
};

inline FACEMESH_HD bool is_finite(const Triple &triple) {
    return isfinite(triple.values[0]) && isfinite(triple.values[1]) && isfinite(triple.values[2]);
}

inline FACEMESH_HD FrameView frame_of(const CropTask &task) { return task.view == nullptr ? task.frame : *task.view; }

inline FACEMESH_HD float load_value(const void *values, size_t index, bool half) {
    return half ? float_from_half(static_cast<const uint16_t *>(values)[index])
                : static_cast<const float *>(values)[index];
}

inline FACEMESH_HD void store_value(void *values, size_t index, float value, bool half) {
    if (half)
        static_cast<uint16_t *>(values)[index] = half_from_float(value);
    else
        static_cast<float *>(values)[index] = value;
}

// Crop px -> frame px: linear part, and the frame point (column + x, row + y) of one crop point; column and row are
// whole numbers.
struct Inverse {
    float xx, xy, yx, yy, determinant; // the determinant is the matrix's own
    float column, row, x, y;
};

// The inverse of a (2, 3) matrix around crop point (u, v). A singular matrix gives values that are not finite.
inline FACEMESH_HD Inverse invert(const double *m, float u, float v) {
    const float a = float(m[0]), b = float(m[1]), c = float(m[3]), d = float(m[4]);
    const float p = u - float(m[2]), q = v - float(m[5]);
    const float determinant = a * d - b * c, inverse = 1 / determinant;
    Inverse result = {d * inverse, -b * inverse, -c * inverse, a * inverse, determinant, 0, 0, 0, 0};
    // Float places the point to a thousandth of a pixel or so; double then says how far off in the crop that whole
    // pixel is.
    result.column = fminf(fmaxf(floorf(result.xx * p + result.xy * q), -1e9f), 1e9f);
    result.row = fminf(fmaxf(floorf(result.yx * p + result.yy * q), -1e9f), 1e9f);
    const double column = result.column, row = result.row;
    const float left_u = float(u - m[2] - m[0] * column - m[1] * row);
    const float left_v = float(v - m[5] - m[3] * column - m[4] * row);
    result.x = result.xx * left_u + result.xy * left_v;
    result.y = result.yx * left_u + result.yy * left_v;
    return result;
}

} // namespace facemesh
