// Crop and decode of the GPU road, as what one thread does. The host runs the same lines in loops, so that tests without a GPU test this arithmetic.
//
// Consumer GPUs run double precision at 1/64 of the rate: it is used a dozen times per block, for what float cannot hold, and never per pixel.
// Positions are relative to a point of the face, so that float holds them to 1e-4 px wherever the face is in the frame.
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

struct CropTask {
    const uint8_t *frame; // (height, width, 3) BGR, row_stride bytes from row to row; on a 4-byte boundary, its rows need not be
    int height, width;
    int32_t row_stride;     // height * row_stride is below 2^31
    const double *matrices; // (faces, 2, 3), frame px -> crop px
    int faces;
    void *out; // (faces, 3, size, size) or (faces, size, size, 3) float, or half
    int size;
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
    float *out; // (faces, count, 3) frame px
};

inline FACEMESH_HD float load_value(const void *values, size_t index, bool half) {
    return half ? float_from_half(static_cast<const uint16_t *>(values)[index]) : static_cast<const float *>(values)[index];
}

inline FACEMESH_HD void store_value(void *values, size_t index, float value, bool half) {
    if (half)
        static_cast<uint16_t *>(values)[index] = half_from_float(value);
    else
        static_cast<float *>(values)[index] = value;
}

// Crop px -> frame px: linear part, and the frame point (column + x, row + y) of one crop point; column and row are whole numbers.
struct Inverse {
    float xx, xy, yx, yy, determinant; // the determinant is the matrix's own
    float column, row, x, y;
};

// The inverse of a (2, 3) matrix around crop point (u, v). A singular matrix gives values that are not finite.
inline FACEMESH_HD Inverse invert(const double *m, float u, float v) {
    const float a = float(m[0]), b = float(m[1]), c = float(m[3]), d = float(m[4]), p = u - float(m[2]), q = v - float(m[5]);
    const float determinant = a * d - b * c, inverse = 1 / determinant;
    Inverse result = {d * inverse, -b * inverse, -c * inverse, a * inverse, determinant, 0, 0, 0, 0};
    // Float places the point to a thousandth of a pixel or so; double then says how far off in the crop that whole pixel is.
    result.column = fminf(fmaxf(floorf(result.xx * p + result.xy * q), -1e9f), 1e9f);
    result.row = fminf(fmaxf(floorf(result.yx * p + result.yy * q), -1e9f), 1e9f);
    const double column = result.column, row = result.row;
    const float left_u = float(u - m[2] - m[0] * column - m[1] * row), left_v = float(v - m[5] - m[3] * column - m[4] * row);
    result.x = result.xx * left_u + result.xy * left_v;
    result.y = result.yx * left_u + result.yy * left_v;
    return result;
}

// ---- crop -------------------------------------------------------------------------------------------------------------------------------------

// Positions of samples are fixed-point numbers, 1/65536 px, relative to whole frame pixels.
struct CropTransform {
    Inverse inverse;                      // around the crop's centre
    int32_t samples;                      // per crop pixel and axis; 0: the crop is black
    int32_t u_x, u_y, v_x, v_y;           // from one sample to the next, across the crop and down
    int32_t first_x, first_y;             // from the centre of a crop pixel to its first sample
    int32_t low_x, high_x, low_y, high_y; // ... and to its outermost ones
};

inline FACEMESH_HD CropTransform crop_transform(const double *matrix, int size) {
    const float centre = 0.5f * float(size - 1);
    CropTransform t = {};
    t.inverse = invert(matrix, centre, centre);
    const float xx = t.inverse.xx, xy = t.inverse.xy, yx = t.inverse.yx, yy = t.inverse.yy;
    // Black where the matrix is singular or not finite, and where a crop pixel is thousands of frame pixels wide: the steps must fit into 32 bits.
    const float steepness = fabsf(xx) + fabsf(xy) + fabsf(yx) + fabsf(yy);
    if (!(steepness > 0 && steepness < 16000)) return t;
    t.samples = int32_t(fminf(fmaxf(rintf(1 / sqrtf(fabsf(t.inverse.determinant))), 1.0f), 8.0f)); // runtime.crop.MAX_SUBSAMPLES; ties to even
    const float step = 65536 / float(t.samples);
    t.u_x = int32_t(rintf(xx * step)), t.u_y = int32_t(rintf(yx * step)), t.v_x = int32_t(rintf(xy * step)), t.v_y = int32_t(rintf(yy * step));
    const int32_t steps = t.samples - 1;
    t.first_x = -steps * (t.u_x + t.v_x) / 2, t.first_y = -steps * (t.u_y + t.v_y) / 2;
    t.low_x = t.first_x + steps * ((t.u_x < 0 ? t.u_x : 0) + (t.v_x < 0 ? t.v_x : 0));
    t.low_y = t.first_y + steps * ((t.u_y < 0 ? t.u_y : 0) + (t.v_y < 0 ? t.v_y : 0));
    t.high_x = t.low_x + steps * (abs(t.u_x) + abs(t.v_x)), t.high_y = t.low_y + steps * (abs(t.u_y) + abs(t.v_y));
    return t;
}

inline FACEMESH_HD uint32_t load_word(const uint8_t *aligned) {
#ifdef __CUDA_ARCH__
    return __ldg(reinterpret_cast<const uint32_t *>(aligned));
#else
    uint32_t word;
    std::memcpy(&word, aligned, sizeof word);
    return word;
#endif
}

// Two neighbouring pixels, each in the lower 24 bits.
struct TwoPixels {
    uint32_t left, right;
};

// Three loads of aligned words, which lie between the frame's start, on a word's boundary itself, and the end of the next pixel; of bytes it were six.
inline FACEMESH_HD TwoPixels load_two_pixels(const uint8_t *frame, int32_t offset) {
    const int misaligned = offset & 3, shift = 8 * misaligned;
    const uint8_t *aligned = frame + (offset - misaligned);
    const uint32_t first = load_word(aligned), second = load_word(aligned + 4);
    const uint32_t third = load_word(aligned + (misaligned == 3 ? 8 : 4)); // no branch: it is needed for misaligned == 3 alone
    const uint32_t low = uint32_t((uint64_t(second) << 32 | first) >> shift), high = uint32_t((uint64_t(third) << 32 | second) >> shift);
    return {low, high << 8 | low >> 24};
}

// Sums of weight * colour, in 1/65536 per sample: at most 64 samples of 255 fit.
struct ColourSums {
    uint32_t blue, green, red;

    FACEMESH_HD void add(uint32_t pixel, uint32_t weight) {
        blue += weight * (pixel & 255);
        green += weight * (pixel >> 8 & 255);
        red += weight * (pixel >> 16 & 255);
    }
};

// One bilinear sample, (x, y) / 65536 px from frame pixel (column, row). INSIDE: the caller knows that its four pixels, and one more to the right,
// are in the frame; otherwise what lies outside is black.
template <bool INSIDE> inline FACEMESH_HD void add_sample(const CropTask &task, int32_t column, int32_t row, int32_t x, int32_t y, ColourSums &sums) {
    column += x >> 16;
    row += y >> 16;
    const uint32_t right = x & 65535, lower = y & 65535, corner = right * lower >> 16;
    const uint32_t weights[4] = {65536 - right - lower + corner, right - corner, lower - corner, corner}; // none negative, their sum is 65536
    if constexpr (INSIDE) {
        const int32_t offset = row * task.row_stride + 3 * column;
        const TwoPixels above = load_two_pixels(task.frame, offset), below = load_two_pixels(task.frame, offset + task.row_stride);
        sums.add(above.left, weights[0]);
        sums.add(above.right, weights[1]);
        sums.add(below.left, weights[2]);
        sums.add(below.right, weights[3]);
    } else {
        for (int i = 0; i < 4; ++i) {
            const int32_t at_x = column + (i & 1), at_y = row + (i >> 1);
            if (at_x < 0 || at_x >= task.width || at_y < 0 || at_y >= task.height) continue;
            const uint8_t *pixel = task.frame + at_y * task.row_stride + 3 * at_x;
            sums.add(uint32_t(pixel[0] | pixel[1] << 8 | pixel[2] << 16), weights[i]);
        }
    }
}

template <bool INSIDE>
inline FACEMESH_HD ColourSums sum_samples(const CropTask &task, const CropTransform &t, int32_t column, int32_t row, int32_t x, int32_t y) {
    ColourSums sums = {0, 0, 0};
    for (int i = 0; i < t.samples; ++i) {
        for (int j = 0; j < t.samples; ++j) add_sample<INSIDE>(task, column, row, x + i * t.u_x + j * t.v_x, y + i * t.u_y + j * t.v_y, sums);
    }
    return sums;
}

// Crop pixel (u, v): the mean of its samples, in the network's colour order and range.
inline FACEMESH_HD Triple crop_pixel(const CropTask &task, const CropTransform &t, int u, int v) {
    if (t.samples == 0) return {{task.low, task.low, task.low}};
    const Inverse &inverse = t.inverse;
    const float centre = 0.5f * float(task.size - 1), from_u = float(u) - centre, from_v = float(v) - centre;
    const float x = fminf(fmaxf(inverse.xx * from_u + inverse.xy * from_v + inverse.x, -1e9f), 1e9f); // 32 bits hold the sums below
    const float y = fminf(fmaxf(inverse.yx * from_u + inverse.yy * from_v + inverse.y, -1e9f), 1e9f);
    const float left = floorf(x), top = floorf(y);
    const int32_t column = int32_t(inverse.column) + int32_t(left), row = int32_t(inverse.row) + int32_t(top);
    const int32_t part_x = int32_t(65536 * (x - left)), part_y = int32_t(65536 * (y - top));
    const bool is_inside = column + ((part_x + t.low_x) >> 16) >= 0 && column + ((part_x + t.high_x) >> 16) < task.width - 2 &&
                           row + ((part_y + t.low_y) >> 16) >= 0 && row + ((part_y + t.high_y) >> 16) < task.height - 1;
    const ColourSums sums = is_inside ? sum_samples<true>(task, t, column, row, part_x + t.first_x, part_y + t.first_y)
                                      : sum_samples<false>(task, t, column, row, part_x + t.first_x, part_y + t.first_y);
    const float gain = task.gain / float(65536 * t.samples * t.samples);
    const float blue = task.low + gain * float(sums.blue), green = task.low + gain * float(sums.green), red = task.low + gain * float(sums.red);
    return task.swap_colours ? Triple{{red, green, blue}} : Triple{{blue, green, red}};
}

// ---- decode -----------------------------------------------------------------------------------------------------------------------------------

// Map values, less 0.5, -> frame px: x' = xx x + xy y + tx, y' = yx x + yy y + ty; z' = zz z, of the map value itself. (The middle of the map's
// range is the crop's centre: from there distances are half as large as from its corner, and so are errors.)
struct DecodeTransform {
    float xx, xy, yx, yy, zz, tx, ty;
};

inline FACEMESH_HD DecodeTransform decode_transform(const double *matrix, float scale) {
    const Inverse inverse = invert(matrix, 0.5f * scale, 0.5f * scale);
    return {scale * inverse.xx, scale * inverse.xy, scale * inverse.yx, scale * inverse.yy, scale / sqrtf(fabsf(inverse.determinant)),
            inverse.column + inverse.x, inverse.row + inverse.y};
}

inline FACEMESH_HD Triple map_pixel(const DecodeTask &task, int face, int row, int column) {
    const size_t plane = size_t(task.map_size) * task.map_size, pixel = size_t(row) * task.map_size + column;
    const size_t first = 3 * plane * face + (task.channels_last ? 3 * pixel : pixel), step = task.channels_last ? 1 : plane;
    return {{load_value(task.map, first, task.half), load_value(task.map, first + step, task.half), load_value(task.map, first + 2 * step, task.half)}};
}

inline FACEMESH_HD Triple blend(const Triple &a, const Triple &b, float weight) {
    return {{a.values[0] + weight * (b.values[0] - a.values[0]), a.values[1] + weight * (b.values[1] - a.values[1]),
             a.values[2] + weight * (b.values[2] - a.values[2])}};
}

// The map at the centre of a grid pixel; at the border clamped like cv2.resize.
inline FACEMESH_HD Triple sample_map(const DecodeTask &task, int face, int grid_row, int grid_column) {
    const float ratio = float(task.map_size) / float(task.resolution), last = float(task.map_size - 1);
    const float x = fminf(fmaxf((float(grid_column) + 0.5f) * ratio - 0.5f, 0.0f), last);
    const float y = fminf(fmaxf((float(grid_row) + 0.5f) * ratio - 0.5f, 0.0f), last);
    const int left = int(x), top = int(y);
    const int right = left + 1 < task.map_size ? left + 1 : left, bottom = top + 1 < task.map_size ? top + 1 : top;
    const Triple upper = blend(map_pixel(task, face, top, left), map_pixel(task, face, top, right), x - float(left));
    const Triple lower = blend(map_pixel(task, face, bottom, left), map_pixel(task, face, bottom, right), x - float(left));
    return blend(upper, lower, y - float(top));
}

// The point of grid pixel indices[i], frame px. The offset comes last: what is added up before is relative to the crop's origin, hence small.
inline FACEMESH_HD Triple decode_point(const DecodeTask &task, const DecodeTransform &t, int face, int i) {
    const int pixel = task.indices[i], row = pixel / task.resolution, column = pixel - row * task.resolution;
    const Triple p = task.map_size == task.resolution ? map_pixel(task, face, row, column) : sample_map(task, face, row, column);
    const float x = p.values[0] - 0.5f, y = p.values[1] - 0.5f, z = p.values[2];
    return {{t.xx * x + t.xy * y + t.tx, t.yx * x + t.yy * y + t.ty, t.zz * z}};
}

} // namespace facemesh
