// Box of a face's landmarks, upright or turned.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>

namespace facemesh {

// Box x1, y1, x2, y2 of points (x, y, z) after a turn by -roll about the origin.
inline std::array<double, 4> upright_box(const float *points, size_t count, double roll) {
    const float c = float(std::cos(roll)), s = float(std::sin(roll));
    float x1 = INFINITY, y1 = INFINITY, x2 = -INFINITY, y2 = -INFINITY;
    for (size_t i = 0; i < count; ++i) {
        const float x = c * points[3 * i] + s * points[3 * i + 1], y = c * points[3 * i + 1] - s * points[3 * i];
        x1 = std::min(x1, x);
        y1 = std::min(y1, y);
        x2 = std::max(x2, x);
        y2 = std::max(y2, y);
    }
    return {x1, y1, x2, y2};
}

} // namespace facemesh
