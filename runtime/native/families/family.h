// Interface of a family of networks: the rule of the crop, the decoding of the output, the mesh that comes out. See
// runtime/families/family.py.
#pragma once

#include <memory>
#include <string>

#include "geometry/similarity.h"
#include "families/mesh_layout.h"
#include "models/spec.h"

namespace facemesh {

// One face of a network's output.
struct DecodeJob {
    const float *output;
    const double *matrix; // (2, 3), frame px -> crop px
    float *vertices;      // (V, 3), or NULL
    float *landmarks;     // (68, 3)
};

class Family {
  public:
    explicit Family(const CropRule &crop) : crop(crop) {}
    virtual ~Family() = default;

    // Frame px. It uses memory of its own, so one thread at a time may call it.
    virtual void decode(const DecodeJob *jobs, size_t count) = 0;

    virtual const MeshLayout &mesh() const = 0;

    const CropRule crop;
};

// topology: path of the UV topology or face model, NULL: the one that the spec names, seen from the spec's folder.
// Throws Error where it is missing, damaged, or another network's.
std::unique_ptr<Family> open_family(const Spec &spec, const std::string &spec_path, const char *topology);

// The families themselves.
std::unique_ptr<Family> open_position_maps(const Spec &spec, const std::string &topology);
std::unique_ptr<Family> open_coefficients(const Spec &spec, const std::string &face_model);

} // namespace facemesh
