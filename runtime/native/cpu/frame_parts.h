// What the host does beside a GPU: the part of a frame that a crop needs, and results that come back.
#pragma once

#include <cstddef>

namespace facemesh {

struct Region {
    int first_row, end_row, first_column, end_column;
};

// The part of a (height, width) frame under a crop of `size` px, with a pixel to spare for bilinear sampling and one
// for rounding. matrix: (2, 3), frame px -> crop px. False for one that is singular or not finite.
bool crop_region(const double *matrix, int size, int height, int width, Region &region);

} // namespace facemesh
