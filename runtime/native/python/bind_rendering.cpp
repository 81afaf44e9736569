// Python bindings of the z-buffer and the visibility of vertices.
#include "bind_rendering.h"

#include <nanobind/stl/pair.h>

#include <algorithm>
#include <limits>
#include <stdexcept>
#include <string>
#include <utility>

#include "arrays.h"
#include "rendering/rasterise.h"
#include "rendering/visibility.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

constexpr size_t MAX_FLOATS = size_t(1) << 40; // of a picture; what the memory does not hold raises MemoryError

using Vertices = In<float, nb::shape<-1, 3>>;
using Triangles = In<int32_t, nb::shape<-1, 3>>;

// Checked in one pass without a branch: a negative index is a large one without its sign.
void require_corners(const Triangles &triangles, const Vertices &vertices, const char *function) {
    uint32_t largest = 0;
    const size_t count = 3 * triangles.shape(0);
    for (size_t i = 0; i < count; ++i) largest = std::max(largest, uint32_t(triangles.data()[i]));
    if (count > 0 && largest >= vertices.shape(0))
        throw std::invalid_argument(std::string(function) + ": a triangle names a vertex that is not there");
}

std::pair<Floats, Floats> rasterise(Vertices vertices, Triangles triangles, In<float, nb::ndim<2>> values,
                                    std::pair<int, int> size_wh) {
    require_aligned(vertices, triangles, values);
    const auto [width, height] = size_wh;
    require(width > 0 && height > 0, "rasterise: width and height must be positive");
    require(values.shape(0) == vertices.shape(0), "rasterise: values must have one row per vertex");
    require_corners(triangles, vertices, "rasterise");
    const size_t pixel_count = size_t(width) * height, channels = values.shape(1);
    require(channels <= MAX_FLOATS / pixel_count, "rasterise: the picture is too large");
    float *image, *depth;
    auto result = std::make_pair(make_floats({size_t(height), size_t(width), channels}, &image),
                                 make_floats({size_t(height), size_t(width)}, &depth));
    nb::gil_scoped_release release;
    std::fill_n(image, pixel_count * channels, 0.0f);
    std::fill_n(depth, pixel_count, -std::numeric_limits<float>::infinity());
    facemesh::rasterise(vertices.data(), triangles.data(), triangles.shape(0), values.data(), channels, width, height,
                        image, depth);
    return result;
}

nb::ndarray<nb::numpy, bool> visible_vertices(Vertices vertices, Triangles triangles, float margin) {
    require_aligned(vertices, triangles);
    require(margin >= 0, "visible_vertices: margin must be a number from 0");
    require_corners(triangles, vertices, "visible_vertices");
    const size_t count = vertices.shape(0);
    bool *visible = new bool[count];
    nb::ndarray<nb::numpy, bool> result(visible, {count}, nb::capsule(visible, [](void *p) noexcept {
                                            delete[] static_cast<bool *>(p);
                                        }));
    nb::gil_scoped_release release;
    facemesh::find_visible(vertices.data(), count, triangles.data(), triangles.shape(0), margin, visible);
    return result;
}

} // namespace

void bind_rendering(nb::module_ &module) {
    module.def(
        "rasterise", &rasterise, "vertices"_a.noconvert(), "triangles"_a.noconvert(), "values"_a.noconvert(),
        "size_wh"_a,
        "rasterise(vertices (V, 3) float32 px, triangles (T, 3) int32, values (V, C) float32, size_wh (int, int))\n"
        "-> (image (H, W, C) float32, depth (H, W) float32)\n\n"
        "Draw front faces (cross(v1 - v0, v2 - v0).z > 0, x right, y down) with a z-buffer, larger z nearer; values\n"
        "are interpolated between the vertices. Pixels are sampled at their centres, which are the integers. Pixels\n"
        "without a face have image 0 and depth -inf; triangles with non-finite corners are left out. For a face in a\n"
        "large picture draw its bounding box alone: subtract its corner from the vertices. Raises TypeError for a\n"
        "wrong dtype, shape or layout, ValueError for triangle indices out of range or an empty size.");
    module.def(
        "visible_vertices", &visible_vertices, "vertices"_a.noconvert(), "triangles"_a.noconvert(), "margin"_a,
        "visible_vertices(vertices (V, 3) float32 px, triangles (T, 3) int32, margin float px) -> (V,) bool\n\n"
        "True for vertices of a front face that no other front face hides: one that covers the vertex and is more\n"
        "than margin nearer there. The camera looks along z; no picture is drawn, so the size of the face does not\n"
        "matter. Vertices that are not finite are not visible. Raises TypeError and ValueError as rasterise does.");
}
