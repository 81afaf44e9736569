#include "rasterise.h"

#include <algorithm>
#include <cfloat>

#include "cpu/simd.h"

namespace facemesh {
namespace {

// Pixel centres this far outside a triangle (in barycentric units) still count: neighbours then leave no cracks despite
// rounding.
constexpr float TOLERANCE = 1e-4f;

// The least pixel not left of `low`, from 0 to `side`, and the greatest not right of `high`, from -1 to side - 1. The
// comparisons come before the conversions, so that no float leaves the range of int. A float next to `side` may be
// rounded, but never to a pixel that is not there.
FACEMESH_INLINE int first_pixel(float low, int side) {
    if (!(low > 0)) return 0;
    if (!(low < float(side))) return side;
    const int whole = int(low);
    return whole + (float(whole) < low);
}
FACEMESH_INLINE int last_pixel(float high, int side) {
    if (!(high >= 0)) return -1;
    return high >= float(side - 1) ? side - 1 : int(high);
}

// CHANNELS is the number of values of a vertex, or 0 for any number.
template <size_t CHANNELS>
FACEMESH_INLINE void draw(const float *vertices, const int32_t *triangles, size_t triangle_count, const float *values,
                          size_t any_channels, int width, int height, float *image, float *depth) {
    const size_t channels = CHANNELS ? CHANNELS : any_channels;
    for (size_t t = 0; t < triangle_count; ++t) {
        const int32_t *corner = triangles + 3 * t;
        const float *a = vertices + 3 * size_t(corner[0]);
        const float *b = vertices + 3 * size_t(corner[1]);
        const float *c = vertices + 3 * size_t(corner[2]);
        const float abx = b[0] - a[0], aby = b[1] - a[1], acx = c[0] - a[0], acy = c[1] - a[1];
        const float area = abx * acy - aby * acx;
        if (!(area > 0 && area <= FLT_MAX)) continue; // turned away, degenerate or not a number

        // The pixels of the triangle's bounding box that lie in the picture; most small triangles have none.
        const int left = first_pixel(std::min({a[0], b[0], c[0]}), width);
        const int right = last_pixel(std::max({a[0], b[0], c[0]}), width);
        const int top = first_pixel(std::min({a[1], b[1], c[1]}), height);
        const int bottom = last_pixel(std::max({a[1], b[1], c[1]}), height);
        if (left > right || top > bottom) continue;

        // Every pixel centre by its barycentric weights; the nearer surface wins.
        const float inverse = 1 / area;
        const float *va = values + size_t(corner[0]) * channels;
        const float *vb = values + size_t(corner[1]) * channels;
        const float *vc = values + size_t(corner[2]) * channels;
        for (int y = top; y <= bottom; ++y) {
            const float py = float(y) - a[1];
            float *depth_row = depth + size_t(y) * width, *image_row = image + size_t(y) * width * channels;
            for (int x = left; x <= right; ++x) {
                const float px = float(x) - a[0];
                const float wb = (px * acy - py * acx) * inverse;
                const float wc = (py * abx - px * aby) * inverse;
                const float wa = 1 - wb - wc;
                if (!(std::min({wa, wb, wc}) >= -TOLERANCE)) continue;
                const float z = wa * a[2] + wb * b[2] + wc * c[2];
                if (!(z > depth_row[x])) continue;
                depth_row[x] = z;
                float *pixel = image_row + size_t(x) * channels;
                for (size_t k = 0; k < channels; ++k) pixel[k] = wa * va[k] + wb * vb[k] + wc * vc[k];
            }
        }
    }
}

} // namespace

FACEMESH_MULTIVERSION
void rasterise(const float *vertices, const int32_t *triangles, size_t triangle_count, const float *values,
               size_t channels, int width, int height, float *image, float *depth) {
    switch (channels) {
    case 1: draw<1>(vertices, triangles, triangle_count, values, 1, width, height, image, depth); break;
    case 3: draw<3>(vertices, triangles, triangle_count, values, 3, width, height, image, depth); break;
    case 4: draw<4>(vertices, triangles, triangle_count, values, 4, width, height, image, depth); break;
    default: draw<0>(vertices, triangles, triangle_count, values, channels, width, height, image, depth);
    }
}

} // namespace facemesh
