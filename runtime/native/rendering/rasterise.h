// A z-buffer for drawings and maps of a mesh.
#pragma once

#include <cstddef>
#include <cstdint>

namespace facemesh {

// vertices: (V, 3) px, larger z is nearer; triangles: (T, 3) valid indices; values: (V, channels).
// Writes image (height, width, channels) and depth (height, width) at pixel centres that a front face covers nearer
// than the depth there.
void rasterise(const float *vertices, const int32_t *triangles, size_t triangle_count, const float *values,
               size_t channels, int width, int height, float *image, float *depth);

} // namespace facemesh
