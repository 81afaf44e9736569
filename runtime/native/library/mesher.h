// From crops of one picture to looks at its faces: crop, network, decode, pose; and a second look where a crop does
// not fit. See runtime/inference/cpu_mesher.py and second_look.py.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "cpu/decode.h"
#include "geometry/face_crop.h"
#include "geometry/pose.h"
#include "include/facemesh.h"
#include "backends/network.h"
#include "models/topology.h"

namespace facemesh {

// A face as one crop shows it.
struct Look {
    Matrix matrix; // the crop
    float landmarks[3 * FACEMESH_LANDMARKS];
    float box[4];
    float confidence;
    Pose pose;
    double roll_deg; // what is left in the crop
    bool is_turned, crop_is_turned;
    float *vertices; // memory of the caller's, or NULL
};

// The tight box of (68, 3) landmarks.
void find_extent(const float *landmarks, float *box);

class Mesher {
  public:
    // network NULL: decode() alone works.
    Mesher(Spec spec, Topology topology, std::unique_ptr<Network> network);

    const Spec &spec() const { return spec_; }
    const Topology &topology() const { return topology_; }
    const PoseEstimator &pose() const { return pose_; }
    bool has_confidence() const { return !spec_.confidence.empty(); }
    Network &network(); // throws Error if there is none

    Matrix crop_matrix(const float *box) const;

    void crop(const Picture &picture, const Matrix &matrix, float *input);

    // One face from the network's output. look.matrix and look.vertices are set before; throws Error for numbers that
    // are not finite.
    void decode(const float *output, Look &look);

    // Looks at `count` faces by their matrices: first once, then again at those whose crop does not fit.
    void see(const Picture &picture, Look *looks, size_t count);

    // The same without a second look.
    void see_once(const Picture &picture, Look *looks, size_t count);

    // A second look at those of `count` faces that need one.
    void see_again(const Picture &picture, Look *looks, size_t count);

  private:
    bool wants_another(const Look &look, Matrix &wanted) const;
    Matrix upright_crop(const Look &look) const;

    Spec spec_;
    Topology topology_;
    Decoder dense_, sparse_;
    PoseEstimator pose_;
    FaceCropper cropper_;
    std::unique_ptr<Network> network_;
    std::vector<float> sparse_vertices_;
    std::vector<float> spare_vertices_; // of second looks
    std::vector<Look> again_;
    std::vector<size_t> numbers_;
};

} // namespace facemesh
