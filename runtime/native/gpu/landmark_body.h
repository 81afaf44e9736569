// The points of a landmark channel: the input plane that shows a network where landmarks are (2DASL: Tu et al.,
// IEEE TMM 2020). It is -1, and 1 at 18 pixels.
#pragma once

#include "kernel_bodies.h"

namespace facemesh {

constexpr int DRAWN_POINTS = 18, LANDMARK_COUNT = 68;

struct LandmarkPair {
    unsigned char first, second;
};

// Brows, eyes with the middles of their lids, nose, mouth with the middle of its inner lips: of two landmarks the mean.
inline FACEMESH_HD LandmarkPair drawn_pair(int point) {
    constexpr LandmarkPair pairs[DRAWN_POINTS] = {{17, 17}, {19, 19}, {21, 21}, {22, 22}, {24, 24}, {26, 26},
                                                  {36, 36}, {37, 40}, {39, 39}, {42, 42}, {43, 46}, {45, 45},
                                                  {31, 31}, {30, 30}, {35, 35}, {48, 48}, {62, 66}, {54, 54}};
    return pairs[point];
}

struct PlanePixel {
    int column, row; // -1 for a point that is not finite
};

inline FACEMESH_HD PlanePixel clipped_pixel(float x, float y, int width, int height) {
    if (!isfinite(x) || !isfinite(y)) return {-1, -1};
    // The pixel whose square holds the point. As published, the first row and column stay free.
    return {int(fminf(fmaxf(floorf(x + 0.5f), 1.0f), float(width - 1))),
            int(fminf(fmaxf(floorf(y + 0.5f), 1.0f), float(height - 1)))};
}

// The pixel of one of the points. landmarks: (68, 3) frame px.
inline FACEMESH_HD PlanePixel drawn_pixel(const float *landmarks, const double *m, int point, int width, int height) {
    const LandmarkPair pair = drawn_pair(point);
    const float *a = landmarks + 3 * pair.first, *b = landmarks + 3 * pair.second;
    const double x = (double(a[0]) + b[0]) / 2, y = (double(a[1]) + b[1]) / 2;
    return clipped_pixel(float(m[0] * x + m[1] * y + m[2]), float(m[3] * x + m[4] * y + m[5]), width, height);
}

// The pixels of a face's points, by the threads or turns `first`, `first + step`, ...
inline FACEMESH_HD void drawn_pixels(const CropTask &task, int face, int first, int step, PlanePixel *pixels) {
    const float *landmarks = task.landmarks + size_t(3) * LANDMARK_COUNT * face;
    for (int point = first; point < DRAWN_POINTS; point += step)
        pixels[point] = drawn_pixel(landmarks, task.matrices + 6 * face, point, task.width, task.height);
}

// The value of one pixel of the channel.
inline FACEMESH_HD float channel_value(const PlanePixel *pixels, int column, int row) {
    for (int point = 0; point < DRAWN_POINTS; ++point)
        if (pixels[point].column == column && pixels[point].row == row) return 1;
    return -1;
}

} // namespace facemesh
