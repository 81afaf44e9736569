#include "rasterise.h"

#include <algorithm>
#include <cmath>

namespace facemesh {
namespace {

// Pixel centres this far outside a triangle (in barycentric units) still count: neighbours then leave no cracks despite
// rounding.
constexpr float kTolerance = -1e-4f;

} // namespace

void rasterise(const float *vertices, const int32_t *triangles, size_t triangle_count, const float *values,
               int channels, int width, int height, float *image, float *depth) {
    for (size_t t = 0; t < triangle_count; ++t) {
        const int32_t *corner = triangles + 3 * t;
        const float *a = vertices + 3 * size_t(corner[0]);
        const float *b = vertices + 3 * size_t(corner[1]);
        const float *c = vertices + 3 * size_t(corner[2]);
        const float abx = b[0] - a[0], aby = b[1] - a[1], acx = c[0] - a[0], acy = c[1] - a[1];
        const float area = abx * acy - aby * acx;
        if (!(area > 0) || !std::isfinite(area)) continue; // turned away, degenerate or not a number

        // The pixels of the triangle's bounding box that lie in the picture.
        const float left = std::max(std::ceil(std::min({a[0], b[0], c[0]})), 0.0f);
        const float right = std::min(std::floor(std::max({a[0], b[0], c[0]})), float(width - 1));
        const float top = std::max(std::ceil(std::min({a[1], b[1], c[1]})), 0.0f);
        const float bottom = std::min(std::floor(std::max({a[1], b[1], c[1]})), float(height - 1));
        if (!(left <= right && top <= bottom)) continue;

        // Every pixel centre by its barycentric weights; the nearer surface wins.
        const float inverse = 1 / area;
        for (int y = int(top); y <= int(bottom); ++y) {
            const float py = float(y) - a[1];
            for (int x = int(left); x <= int(right); ++x) {
                const float px = float(x) - a[0];
                const float wb = (px * acy - py * acx) * inverse;
                const float wc = (py * abx - px * aby) * inverse;
                const float wa = 1 - wb - wc;
                if (!(wa >= kTolerance && wb >= kTolerance && wc >= kTolerance)) continue;
                const size_t pixel = size_t(y) * width + x;
                const float z = wa * a[2] + wb * b[2] + wc * c[2];
                if (!(z > depth[pixel])) continue;
                depth[pixel] = z;
                const float *va = values + size_t(corner[0]) * channels;
                const float *vb = values + size_t(corner[1]) * channels;
                const float *vc = values + size_t(corner[2]) * channels;
                for (int k = 0; k < channels; ++k) image[pixel * channels + k] = wa * va[k] + wb * vb[k] + wc * vc[k];
            }
        }
    }
}

} // namespace facemesh
