#include "families/family.h"

#include <filesystem>

#include "library/error.h"
#include "models/files.h"

namespace facemesh {
namespace {

// The file that a spec names, or else one of that name beside the spec.
std::string place_of(const std::string &spec_path, const std::string &name) {
    const std::string named = beside(spec_path, name);
    const std::string near = beside(spec_path, std::filesystem::path(name).filename().string());
    return !is_file(named) && is_file(near) ? near : named;
}

} // namespace

std::unique_ptr<Family> open_family(const Spec &spec, const std::string &spec_path, const char *topology) {
    const std::string path = topology != nullptr ? topology : place_of(spec_path, spec.topology);
    const bool is_map = spec.family == FamilyKind::position_map;
    if (!is_file(path))
        throw bad_file(path, is_map ? "no such file, and the model needs its topology; copy it beside the model, or "
                                      "name it in facemesh_model_params.topology"
                                    : "no such file; a network of coefficients needs the face model that it was "
                                      "trained with: name it in facemesh_model_params.topology, 'python -m export "
                                      "face-model' makes one");
    return is_map ? open_position_maps(spec, path) : open_coefficients(spec, path);
}

} // namespace facemesh
