#include "families/topology.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "include/facemesh.h"
#include "library/error.h"
#include "models/npz.h"

namespace facemesh {
namespace {

constexpr int MOST_RESOLUTION = 4096;
const char *const REMEDY = "get the file again";

class Tables {
  public:
    explicit Tables(const std::string &path)
        : path_(path), arrays_(load_npz(path,
                                        {"resolution", "face_indices", "landmark_indices", "triangles",
                                         "canonical_vertices"},
                                        "it comes with the model: keep both in one folder, or " +
                                            std::string(REMEDY))) {}

    // shape: -1 fits any length.
    const Array &need(const std::string &name, const std::vector<int64_t> &shape) const {
        const auto found = arrays_.find(name);
        if (found == arrays_.end()) throw wrong("lacks the array " + name);
        const Array &array = found->second;
        if (!array.has_shape(shape))
            throw wrong(name + " must have shape " + shape_text(shape) + " (-1: any), has " + array.shape_text());
        return array;
    }

    std::vector<int32_t> indices(const std::string &name, const std::vector<int64_t> &shape, double stop) const {
        const Array &array = need(name, shape);
        if (!array.is_whole()) throw wrong(name + " must be integers, is " + array.type());
        const std::vector<double> values = array.doubles();
        for (double value : values)
            if (!(value >= 0 && value < stop)) throw wrong("the array " + name + " names what is not there");
        return std::vector<int32_t>(values.begin(), values.end());
    }

    Error wrong(const std::string &fault) const {
        return bad_file(path_, "not a usable UV topology: " + fault + "; " + REMEDY);
    }

  private:
    const std::string &path_;
    Arrays arrays_;
};

} // namespace

Topology load_topology(const std::string &path) {
    const Tables tables(path);
    Topology topology;
    const Array &side = tables.need("resolution", {});
    const double resolution = side.is_whole() ? side.at(0) : 0;
    if (!(resolution >= 1 && resolution <= MOST_RESOLUTION)) throw tables.wrong("resolution must be 1..4096");
    topology.resolution = int(resolution);
    topology.face_indices = tables.indices("face_indices", {-1}, resolution * resolution);
    const std::vector<int32_t> &face = topology.face_indices;
    if (face.empty() || std::adjacent_find(face.begin(), face.end(), std::greater_equal<int32_t>()) != face.end())
        throw tables.wrong("face_indices must ascend");
    MeshLayout &mesh = topology.mesh;
    mesh.vertex_count = face.size();
    const std::vector<float> canonical = tables.need("canonical_vertices", {int64_t(face.size()), 3}).floats();
    if (canonical.empty() || !std::all_of(canonical.begin(), canonical.end(), [](float x) { return std::isfinite(x); }))
        throw tables.wrong("canonical_vertices must be finite numbers");
    for (int32_t pixel : tables.indices("landmark_indices", {FACEMESH_LANDMARKS}, resolution * resolution)) {
        const auto place = std::lower_bound(face.begin(), face.end(), pixel);
        if (place == face.end() || *place != pixel)
            throw tables.wrong("landmark_indices names pixels that are not face");
        const size_t vertex = size_t(place - face.begin());
        mesh.landmark_vertices.push_back(int32_t(vertex));
        for (size_t axis = 0; axis < 3; ++axis)
            mesh.canonical_landmarks.push_back(double(canonical[3 * vertex + axis]));
    }
    mesh.triangles = tables.indices("triangles", {-1, 3}, double(face.size()));
    for (int32_t pixel : face) { // the centres of the pixels
        mesh.uv.push_back((float(pixel % topology.resolution) + 0.5f) / float(resolution));
        mesh.uv.push_back((float(resolution) - float(pixel / topology.resolution) - 0.5f) / float(resolution));
    }
    return topology;
}

Topology Topology::landmarks_alone() const {
    Topology small{resolution, {}, {}};
    for (int32_t vertex : mesh.landmark_vertices) small.face_indices.push_back(face_indices[size_t(vertex)]);
    std::vector<int32_t> &pixels = small.face_indices;
    std::sort(pixels.begin(), pixels.end());
    pixels.erase(std::unique(pixels.begin(), pixels.end()), pixels.end());
    small.mesh.vertex_count = pixels.size();
    for (int32_t vertex : mesh.landmark_vertices) {
        const auto place = std::lower_bound(pixels.begin(), pixels.end(), face_indices[size_t(vertex)]);
        small.mesh.landmark_vertices.push_back(int32_t(place - pixels.begin()));
    }
    return small;
}

} // namespace facemesh
