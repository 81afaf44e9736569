// The landmark channel of a network's input, on the CPU.
#pragma once

#include <cstddef>

#include "gpu/landmark_body.h"

namespace facemesh {

// landmarks: (68, 3) frame px, z is not read; matrix: (2, 3), frame px -> crop px. plane: (size, size); values lie
// row_step apart from row to row and column_step from column to column.
inline void draw_landmarks(const float *landmarks, const double *matrix, int size, float *plane, ptrdiff_t row_step,
                           ptrdiff_t column_step) {
    for (int row = 0; row < size; ++row)
        for (int column = 0; column < size; ++column) plane[row * row_step + column * column_step] = -1;
    for (int point = 0; point < DRAWN_POINTS; ++point) {
        const PlanePixel pixel = drawn_pixel(landmarks, matrix, point, size, size);
        if (pixel.row >= 0) plane[pixel.row * row_step + pixel.column * column_step] = 1;
    }
}

} // namespace facemesh
