// Comparison of two frames by a grid of their pixels: a cut changes many, and what they show.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>

namespace facemesh {

struct SceneChange {
    double changed;  // share of the pixels that differ by more than `change` grey levels
    double likeness; // correlation of the grids, 1 for those of one grey
};

// Green of the pixels in the middles of rows x columns cells of a BGR picture; cells beyond its sides are left out by
// the caller, who takes no more rows and columns than the picture has.
inline void scene_grid(const uint8_t *image, int height, int width, ptrdiff_t row_stride, int rows, int columns,
                       uint8_t *grid) {
    const int down = height / rows, across = width / columns;
    for (int row = 0; row < rows; ++row) {
        const uint8_t *line = image + (row * down + down / 2) * row_stride + 3 * (across / 2) + 1;
        for (int column = 0; column < columns; ++column) grid[row * columns + column] = line[3 * column * across];
    }
}

inline SceneChange scene_change(const uint8_t *before, const uint8_t *now, int count, int change) {
    double sum_before = 0, sum_now = 0, both = 0, squares_before = 0, squares_now = 0;
    int changed = 0;
    for (int i = 0; i < count; ++i) {
        const double a = before[i], b = now[i];
        changed += std::abs(int(before[i]) - int(now[i])) > change;
        sum_before += a;
        sum_now += b;
        both += a * b;
        squares_before += a * a;
        squares_now += b * b;
    }
    // Sums of integers are exact, so that a grid of one grey has the variance 0.
    const double spread_before = count * squares_before - sum_before * sum_before;
    const double spread = spread_before * (count * squares_now - sum_now * sum_now);
    const double likeness = spread > 0 ? (count * both - sum_before * sum_now) / std::sqrt(spread) : 1;
    return {double(changed) / count, likeness};
}

} // namespace facemesh
