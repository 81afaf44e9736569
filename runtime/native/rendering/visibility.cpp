#include "visibility.h"

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <vector>

namespace facemesh {
namespace {

// A vertex this far outside a triangle (in barycentric units) counts as covered: no vertex shows through the edge
// between two triangles.
constexpr float TOLERANCE = 1e-4f;
constexpr int MOST_CELLS = 1024; // on a side of the grid

// The corners of front faces, sorted into the cells of a grid over the plane of the picture.
struct Grid {
    float left = 0, top = 0, per_x = 0, per_y = 0; // cells per px
    int columns = 1, rows = 1;
    std::vector<int32_t> start;  // of each cell, and the end, in order
    std::vector<int32_t> order;  // vertices by their cell

    // Cells beyond the border count as those at the border; rounding is the same for vertices and triangles.
    int column(float x) const { return int(std::clamp((x - left) * per_x, 0.0f, float(columns - 1))); }
    int row(float y) const { return int(std::clamp((y - top) * per_y, 0.0f, float(rows - 1))); }
    size_t cell(const float *v) const { return size_t(row(v[1])) * columns + column(v[0]); }
};

Grid make_grid(const float *vertices, size_t count, const bool *candidate) {
    float low[2] = {FLT_MAX, FLT_MAX}, high[2] = {-FLT_MAX, -FLT_MAX};
    size_t candidates = 0;
    for (size_t i = 0; i < count; ++i) {
        if (!candidate[i]) continue;
        ++candidates;
        for (int axis = 0; axis < 2; ++axis) {
            low[axis] = std::min(low[axis], vertices[3 * i + axis]);
            high[axis] = std::max(high[axis], vertices[3 * i + axis]);
        }
    }
    Grid grid;
    if (candidates > 0) {
        grid.left = low[0];
        grid.top = low[1];
        grid.columns = grid.rows = std::clamp(int(std::sqrt(double(candidates))), 1, MOST_CELLS);
        const float wide = high[0] - low[0], tall = high[1] - low[1];
        grid.per_x = wide > FLT_MIN && wide <= FLT_MAX ? grid.columns / wide : 0;
        grid.per_y = tall > FLT_MIN && tall <= FLT_MAX ? grid.rows / tall : 0;
    }
    grid.start.assign(size_t(grid.columns) * grid.rows + 1, 0);
    for (size_t i = 0; i < count; ++i)
        if (candidate[i]) ++grid.start[grid.cell(vertices + 3 * i) + 1];
    for (size_t c = 1; c < grid.start.size(); ++c) grid.start[c] += grid.start[c - 1];
    grid.order.resize(candidates);
    std::vector<int32_t> next(grid.start.begin(), grid.start.end() - 1);
    for (size_t i = 0; i < count; ++i)
        if (candidate[i]) grid.order[next[grid.cell(vertices + 3 * i)]++] = int32_t(i);
    return grid;
}

// Twice the area of a front face; 0 or less, infinite or not a number for any other.
inline float front_area(const float *a, const float *b, const float *c) {
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]);
}
inline bool is_front(const float *a, const float *b, const float *c) {
    const float area = front_area(a, b, c);
    return area > 0 && area <= FLT_MAX && std::isfinite(a[2] + b[2] + c[2]);
}

} // namespace

void find_visible(const float *vertices, size_t count, const int32_t *triangles, size_t triangle_count, float margin,
                  bool *visible) {
    std::fill_n(visible, count, false);
    for (size_t t = 0; t < triangle_count; ++t) {
        const int32_t *corner = triangles + 3 * t;
        const size_t i = corner[0], j = corner[1], k = corner[2];
        if (is_front(vertices + 3 * i, vertices + 3 * j, vertices + 3 * k)) visible[i] = visible[j] = visible[k] = true;
    }
    const Grid grid = make_grid(vertices, count, visible);

    for (size_t t = 0; t < triangle_count; ++t) {
        const int32_t *corner = triangles + 3 * t;
        const float *a = vertices + 3 * size_t(corner[0]);
        const float *b = vertices + 3 * size_t(corner[1]);
        const float *c = vertices + 3 * size_t(corner[2]);
        if (!is_front(a, b, c)) continue;
        const float abx = b[0] - a[0], aby = b[1] - a[1], acx = c[0] - a[0], acy = c[1] - a[1];
        const float inverse = 1 / front_area(a, b, c), nearest = std::max({a[2], b[2], c[2]});
        const int first = grid.column(std::min({a[0], b[0], c[0]})), last = grid.column(std::max({a[0], b[0], c[0]}));
        const int bottom = grid.row(std::max({a[1], b[1], c[1]}));
        for (int row = grid.row(std::min({a[1], b[1], c[1]})); row <= bottom; ++row) {
            const size_t line = size_t(row) * grid.columns;
            for (int32_t n = grid.start[line + first]; n < grid.start[line + last + 1]; ++n) {
                const int32_t vertex = grid.order[n];
                const float *v = vertices + 3 * size_t(vertex);
                if (!(nearest > v[2] + margin)) continue;
                const float px = v[0] - a[0], py = v[1] - a[1];
                const float wb = (px * acy - py * acx) * inverse, wc = (py * abx - px * aby) * inverse;
                const float wa = 1 - wb - wc;
                if (!(std::min({wa, wb, wc}) >= -TOLERANCE)) continue;
                if (vertex == corner[0] || vertex == corner[1] || vertex == corner[2]) continue;
                if (wa * a[2] + wb * b[2] + wc * c[2] > v[2] + margin) visible[vertex] = false;
            }
        }
    }
}

} // namespace facemesh
