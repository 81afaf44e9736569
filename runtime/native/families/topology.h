// The layout of a UV position map: see runtime/families/uv_topology.py.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "families/mesh_layout.h"

namespace facemesh {

struct Topology {
    int resolution;                    // side of the grid that the indices count in
    std::vector<int32_t> face_indices; // (V,) pixels of the grid that are vertices, ascending
    MeshLayout mesh;

    // The same layout with the landmarks as its only vertices, without triangles.
    Topology landmarks_alone() const;
};

// Throws Error where the .npz is missing, damaged or inconsistent.
Topology load_topology(const std::string &path);

} // namespace facemesh
