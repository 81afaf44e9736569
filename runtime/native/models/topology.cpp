#include "models/topology.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "library/error.h"
#include "models/npz.h"

namespace facemesh {
namespace {

constexpr int MOST_RESOLUTION = 4096;
const char *const REMEDY = "; get the file again";

class Arrays {
  public:
    explicit Arrays(const std::string &path) : path_(path), arrays_(load_npz(path)) {}

    // shape: -1 fits any length.
    const Array &need(const std::string &name, const std::vector<int64_t> &shape, bool is_whole) const {
        const auto found = arrays_.find(name);
        if (found == arrays_.end()) throw wrong("lacks the array " + name);
        const Array &array = found->second;
        bool fits = array.is_whole == is_whole && array.shape.size() == shape.size();
        for (size_t axis = 0; fits && axis < shape.size(); ++axis)
            fits = shape[axis] < 0 || shape[axis] == array.shape[axis];
        if (!fits) throw wrong("the array " + name + " has another shape or type than a UV topology's");
        return array;
    }

    std::vector<int32_t> indices(const std::string &name, const std::vector<int64_t> &shape, double stop) const {
        const Array &array = need(name, shape, true);
        for (double value : array.values)
            if (!(value >= 0 && value < stop)) throw wrong("the array " + name + " names what is not there");
        return std::vector<int32_t>(array.values.begin(), array.values.end());
    }

    Error wrong(const std::string &fault) const {
        return bad_file(path_, "not a usable UV topology: " + fault + REMEDY);
    }

  private:
    const std::string &path_;
    std::map<std::string, Array> arrays_;
};

} // namespace

Topology load_topology(const std::string &path) {
    const Arrays arrays(path);
    Topology topology;
    const double resolution = arrays.need("resolution", {}, true).values[0];
    if (!(resolution >= 1 && resolution <= MOST_RESOLUTION)) throw arrays.wrong("resolution must be 1..4096");
    topology.resolution = int(resolution);
    topology.face_indices = arrays.indices("face_indices", {-1}, resolution * resolution);
    const std::vector<int32_t> &face = topology.face_indices;
    if (face.empty() || std::adjacent_find(face.begin(), face.end(), std::greater_equal<int32_t>()) != face.end())
        throw arrays.wrong("face_indices must ascend");
    const Array &canonical = arrays.need("canonical_vertices", {int64_t(face.size()), 3}, false);
    for (double value : canonical.values)
        if (!std::isfinite(value)) throw arrays.wrong("canonical_vertices must be finite");
    for (int32_t pixel : arrays.indices("landmark_indices", {FACEMESH_LANDMARKS}, resolution * resolution)) {
        const auto place = std::lower_bound(face.begin(), face.end(), pixel);
        if (place == face.end() || *place != pixel)
            throw arrays.wrong("landmark_indices names pixels that are not face");
        const size_t vertex = size_t(place - face.begin());
        topology.landmark_vertices.push_back(int32_t(vertex));
        for (size_t axis = 0; axis < 3; ++axis)
            topology.canonical_landmarks.push_back(double(float(canonical.values[3 * vertex + axis])));
    }
    topology.triangles = arrays.indices("triangles", {-1, 3}, double(face.size()));
    return topology;
}

Topology Topology::landmarks_alone() const {
    Topology small{resolution, {}, {}, {}, canonical_landmarks};
    for (int32_t vertex : landmark_vertices) small.face_indices.push_back(face_indices[size_t(vertex)]);
    std::vector<int32_t> &pixels = small.face_indices;
    std::sort(pixels.begin(), pixels.end());
    pixels.erase(std::unique(pixels.begin(), pixels.end()), pixels.end());
    for (int32_t vertex : landmark_vertices) {
        const auto place = std::lower_bound(pixels.begin(), pixels.end(), face_indices[size_t(vertex)]);
        small.landmark_vertices.push_back(int32_t(place - pixels.begin()));
    }
    return small;
}

} // namespace facemesh
