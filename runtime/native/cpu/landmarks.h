// Rotation and box of a face's landmarks: so few numbers that NumPy's calls cost more than the work.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>

namespace facemesh {

using Matrix3 = std::array<std::array<double, 3>, 3>;

// Unit eigenvector of the largest eigenvalue of a symmetric matrix, by Jacobi's rotations.
inline std::array<double, 4> dominant_eigenvector(double (&m)[4][4]) {
    double v[4][4] = {{1, 0, 0, 0}, {0, 1, 0, 0}, {0, 0, 1, 0}, {0, 0, 0, 1}};
    for (int sweep = 0; sweep < 32; ++sweep) {
        double off = 0, size = 0;
        for (int i = 0; i < 4; ++i)
            for (int j = 0; j < 4; ++j) (i == j ? size : off) += m[i][j] * m[i][j];
        if (off <= 1e-30 * size) break;
        for (int p = 0; p < 3; ++p)
            for (int q = p + 1; q < 4; ++q) {
                if (m[p][q] == 0) continue;
                const double theta = (m[q][q] - m[p][p]) / (2 * m[p][q]);
                const double t = std::copysign(1.0, theta) / (std::fabs(theta) + std::hypot(theta, 1.0));
                const double c = 1 / std::hypot(t, 1.0), s = t * c;
                for (int k = 0; k < 4; ++k) {
                    const double a = m[k][p], b = m[k][q];
                    m[k][p] = c * a - s * b;
                    m[k][q] = s * a + c * b;
                }
                for (int k = 0; k < 4; ++k) {
                    const double a = m[p][k], b = m[q][k];
                    m[p][k] = c * a - s * b;
                    m[q][k] = s * a + c * b;
                }
                for (int k = 0; k < 4; ++k) {
                    const double a = v[k][p], b = v[k][q];
                    v[k][p] = c * a - s * b;
                    v[k][q] = s * a + c * b;
                }
            }
    }
    int best = 0;
    for (int i = 1; i < 4; ++i)
        if (m[i][i] > m[best][best]) best = i;
    return {v[0][best], v[1][best], v[2][best], v[3][best]};
}

// The rotation R with the largest trace of R^T (points^T weighted), which is never a reflection (Horn 1987); the
// weighted reference points sum to 0. False for points that are not finite or all the same.
inline bool fit_rotation(const double *points, const double *weighted, size_t count, Matrix3 &rotation) {
    double h[3][3] = {};
    bool is_finite = true, is_one_point = true;
    for (size_t i = 0; i < count; ++i)
        for (int row = 0; row < 3; ++row) {
            const double value = points[3 * i + row];
            is_finite &= std::isfinite(value);
            is_one_point &= value == points[row];
            for (int column = 0; column < 3; ++column) h[row][column] += value * weighted[3 * i + column];
        }
    if (!is_finite || is_one_point) return false;
    // Its eigenvector is the quaternion x, y, z, w (Bar-Itzhack 2000).
    double m[4][4] = {{h[0][0] - h[1][1] - h[2][2], h[0][1] + h[1][0], h[0][2] + h[2][0], h[2][1] - h[1][2]},
                      {0, h[1][1] - h[0][0] - h[2][2], h[1][2] + h[2][1], h[0][2] - h[2][0]},
                      {0, 0, h[2][2] - h[0][0] - h[1][1], h[1][0] - h[0][1]},
                      {0, 0, 0, h[0][0] + h[1][1] + h[2][2]}};
    for (int row = 1; row < 4; ++row)
        for (int column = 0; column < row; ++column) m[row][column] = m[column][row];
    const auto [x, y, z, w] = dominant_eigenvector(m);
    rotation = {{{1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)},
                 {2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)},
                 {2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)}}};
    return true;
}

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
