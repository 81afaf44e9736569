// What the meshes of one model have in common.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace facemesh {

struct MeshLayout {
    size_t vertex_count = 0;
    std::vector<int32_t> triangles;          // (T, 3)
    std::vector<int32_t> landmark_vertices;  // (68,)
    std::vector<double> canonical_landmarks; // (68, 3) of the mean face: x right, y down, z to the camera
    std::vector<float> uv;                   // (V, 2) texture coordinates 0..1, u right, v up
};

} // namespace facemesh
