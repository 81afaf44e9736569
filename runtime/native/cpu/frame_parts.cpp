#include "frame_parts.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "simd.h"

namespace facemesh {

bool crop_region(const double *m, int size, int height, int width, Region &region) {
    const double determinant = m[0] * m[4] - m[1] * m[3];
    if (!(std::isfinite(determinant) && determinant != 0 && std::isfinite(m[2] + m[5]))) return false;
    double low_x = INFINITY, high_x = -INFINITY, low_y = INFINITY, high_y = -INFINITY;
    for (int corner = 0; corner < 4; ++corner) {
        const double u = (corner & 1 ? size - 0.5 : -0.5) - m[2], v = (corner & 2 ? size - 0.5 : -0.5) - m[5];
        const double x = (m[4] * u - m[1] * v) / determinant, y = (m[0] * v - m[3] * u) / determinant;
        low_x = std::min(low_x, x), high_x = std::max(high_x, x);
        low_y = std::min(low_y, y), high_y = std::max(high_y, y);
    }
    const auto span = [](double low, double high, int length, int &first, int &end) {
        const double from = std::max(0.0, low - 1), to = std::min(length - 1.0, high + 2);
        first = from <= to ? int(std::floor(from)) : 0;
        end = from <= to ? int(std::ceil(to)) + 1 : 0;
    };
    span(low_y, high_y, height, region.first_row, region.end_row);
    span(low_x, high_x, width, region.first_column, region.end_column);
    return true;
}

} // namespace facemesh
