// The vertices of a mesh that a camera sees.
#pragma once

#include <cstddef>
#include <cstdint>

namespace facemesh {

// vertices: (count, 3) px, larger z is nearer; triangles: (triangle_count, 3) valid indices. A vertex is visible if it
// is a corner of a front face and no front face, of which it is no corner, covers it more than `margin` px nearer.
void find_visible(const float *vertices, size_t count, const int32_t *triangles, size_t triangle_count, float margin,
                  bool *visible);

} // namespace facemesh
