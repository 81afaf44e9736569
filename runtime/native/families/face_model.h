// The linear face model (3DMM) of a network of coefficients: see runtime/families/face_model.py.
#pragma once

#include <string>
#include <vector>

#include "families/mesh_layout.h"

namespace facemesh {

// Vertices moved by coefficients, shape first, then expression. Model frame: x right, y up, z to the camera.
struct FaceModel {
    std::vector<float> mean;  // (V, 3) neutral face, model units
    std::vector<float> basis; // (3V, C) rows x0 y0 z0 x1 ..., model units per unit of coefficient
    int shape_count, expression_count;
    int bits; // 32, 16 or 8, of the basis in its file; decoders hold it in as many
    MeshLayout mesh;
};

// Throws Error that names the file and the array at fault.
FaceModel load_face_model(const std::string &path);

} // namespace facemesh
