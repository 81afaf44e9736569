// One pixel of a crop.
#pragma once

#include "kernel_bodies.h"

namespace facemesh {

// Positions of samples are fixed-point numbers, 1/65536 px, relative to whole frame pixels.
struct CropTransform {
    Inverse inverse;                      // around the crop's centre
    int32_t samples;                      // per crop pixel and axis; 0: the crop is black
    int32_t u_x, u_y, v_x, v_y;           // from one sample to the next, across the crop and down
    int32_t first_x, first_y;             // from the centre of a crop pixel to its first sample
    int32_t low_x, high_x, low_y, high_y; // ... and to its outermost ones
};

inline FACEMESH_HD CropTransform crop_transform(const double *matrix, int width, int height) {
    CropTransform t = {};
    t.inverse = invert(matrix, 0.5f * float(width - 1), 0.5f * float(height - 1));
    const float xx = t.inverse.xx, xy = t.inverse.xy, yx = t.inverse.yx, yy = t.inverse.yy;
    // Black where the matrix is singular or not finite, and where a crop pixel is thousands of frame pixels wide: the
    // steps must fit into 32 bits.
    const float steepness = fabsf(xx) + fabsf(xy) + fabsf(yx) + fabsf(yy);
    if (!(steepness > 0 && steepness < 16000)) return t;
    // At most runtime.geometry.crop.MAX_SUBSAMPLES; ties to even.
    t.samples = int32_t(fminf(fmaxf(rintf(1 / sqrtf(fabsf(t.inverse.determinant))), 1.0f), 8.0f));
    const float step = 65536 / float(t.samples);
    t.u_x = int32_t(rintf(xx * step));
    t.u_y = int32_t(rintf(yx * step));
    t.v_x = int32_t(rintf(xy * step));
    t.v_y = int32_t(rintf(yy * step));
    const int32_t steps = t.samples - 1;
    t.first_x = -steps * (t.u_x + t.v_x) / 2;
    t.first_y = -steps * (t.u_y + t.v_y) / 2;
    t.low_x = t.first_x + steps * ((t.u_x < 0 ? t.u_x : 0) + (t.v_x < 0 ? t.v_x : 0));
    t.low_y = t.first_y + steps * ((t.u_y < 0 ? t.u_y : 0) + (t.v_y < 0 ? t.v_y : 0));
    t.high_x = t.low_x + steps * (abs(t.u_x) + abs(t.v_x));
    t.high_y = t.low_y + steps * (abs(t.u_y) + abs(t.v_y));
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

// Three loads of aligned words instead of six of bytes. The words lie between the frame's start, on a word's boundary
// itself, and the end of the next pixel.
inline FACEMESH_HD TwoPixels load_two_pixels(const uint8_t *frame, int32_t offset) {
    const int misaligned = offset & 3, shift = 8 * misaligned;
    const uint8_t *aligned = frame + (offset - misaligned);
    const uint32_t first = load_word(aligned), second = load_word(aligned + 4);
    // Needed for misaligned == 3 alone; loading always saves a branch.
    const uint32_t third = load_word(aligned + (misaligned == 3 ? 8 : 4));
    const uint32_t low = uint32_t((uint64_t(second) << 32 | first) >> shift);
    const uint32_t high = uint32_t((uint64_t(third) << 32 | second) >> shift);
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

// One bilinear sample, (x, y) / 65536 px from frame pixel (column, row). INSIDE: the caller knows that its four pixels,
// and one more to the right, are in the frame; otherwise what lies outside is black.
template <bool INSIDE>
inline FACEMESH_HD void add_sample(const FrameView &frame, int32_t column, int32_t row, int32_t x, int32_t y,
                                   ColourSums &sums) {
    column += x >> 16;
    row += y >> 16;
    const uint32_t right = x & 65535, lower = y & 65535, corner = right * lower >> 16;
    // None is negative, their sum is 65536.
    const uint32_t weights[4] = {65536 - right - lower + corner, right - corner, lower - corner, corner};
    if constexpr (INSIDE) {
        const int32_t offset = row * frame.row_stride + 3 * column;
        const TwoPixels above = load_two_pixels(frame.pixels, offset);
        const TwoPixels below = load_two_pixels(frame.pixels, offset + frame.row_stride);
        sums.add(above.left, weights[0]);
        sums.add(above.right, weights[1]);
        sums.add(below.left, weights[2]);
        sums.add(below.right, weights[3]);
    } else {
        for (int i = 0; i < 4; ++i) {
            const int32_t at_x = column + (i & 1), at_y = row + (i >> 1);
            if (at_x < 0 || at_x >= frame.width || at_y < 0 || at_y >= frame.height) continue;
            const uint8_t *pixel = frame.pixels + at_y * frame.row_stride + 3 * at_x;
            sums.add(uint32_t(pixel[0] | pixel[1] << 8 | pixel[2] << 16), weights[i]);
        }
    }
}

template <bool INSIDE>
inline FACEMESH_HD ColourSums sum_samples(const FrameView &frame, const CropTransform &t, int32_t column, int32_t row,
                                          int32_t x, int32_t y) {
    ColourSums sums = {0, 0, 0};
    for (int i = 0; i < t.samples; ++i) {
        for (int j = 0; j < t.samples; ++j)
            add_sample<INSIDE>(frame, column, row, x + i * t.u_x + j * t.v_x, y + i * t.u_y + j * t.v_y, sums);
    }
    return sums;
}

// Crop pixel (u, v): the mean of its samples, in the network's colour order and range.
inline FACEMESH_HD Triple crop_pixel(const CropTask &task, const FrameView &frame, const CropTransform &t, int u,
                                     int v) {
    if (t.samples == 0) return {{task.low, task.low, task.low}};
    const Inverse &inverse = t.inverse;
    const float from_u = float(u) - 0.5f * float(task.width - 1), from_v = float(v) - 0.5f * float(task.height - 1);
    // Clamped so that 32 bits hold the sums below.
    const float x = fminf(fmaxf(inverse.xx * from_u + inverse.xy * from_v + inverse.x, -1e9f), 1e9f);
    const float y = fminf(fmaxf(inverse.yx * from_u + inverse.yy * from_v + inverse.y, -1e9f), 1e9f);
    const float left = floorf(x), top = floorf(y);
    const int32_t column = int32_t(inverse.column) + int32_t(left), row = int32_t(inverse.row) + int32_t(top);
    const int32_t part_x = int32_t(65536 * (x - left)), part_y = int32_t(65536 * (y - top));
    const bool is_inside = column + ((part_x + t.low_x) >> 16) >= 0 &&
                           column + ((part_x + t.high_x) >> 16) < frame.width - 2 &&
                           row + ((part_y + t.low_y) >> 16) >= 0 &&
                           row + ((part_y + t.high_y) >> 16) < frame.height - 1;
    const int32_t first_x = part_x + t.first_x, first_y = part_y + t.first_y;
    const ColourSums sums = is_inside ? sum_samples<true>(frame, t, column, row, first_x, first_y)
                                      : sum_samples<false>(frame, t, column, row, first_x, first_y);
    const float gain = task.gain / float(65536 * t.samples * t.samples);
    const float blue = task.low + gain * float(sums.blue);
    const float green = task.low + gain * float(sums.green);
    const float red = task.low + gain * float(sums.red);
    return task.swap_colours ? Triple{{red, green, blue}} : Triple{{blue, green, red}};
}

} // namespace facemesh
