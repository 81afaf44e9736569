// From crops of one picture to looks at its faces: crop, network, decode, pose; and a second look where a crop does
// not fit. See runtime/inference/cpu_mesher.py and second_look.py.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "backends/network.h"
#include "families/family.h"
#include "geometry/face_crop.h"
#include "geometry/pose.h"
#include "include/facemesh.h"
#include "library/error.h"

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
    Mesher(Spec spec, std::unique_ptr<Family> family, std::unique_ptr<Network> network);

    // Lets another mesher, which must outlive this one, find the landmarks for a network that takes them. `reuse`:
    // landmarks that are known spare it. Throws Error if this network takes none, or the first one does. See
    // runtime/inference/guided_runner.py.
    void guide(Mesher &first, bool reuse);

    const Spec &spec() const { return spec_; }
    const CropRule &crop_rule() const { return family_->crop; }
    const MeshLayout &mesh() const { return family_->mesh(); }
    const PoseEstimator &pose() const { return pose_; }
    bool has_confidence() const { return !spec_.confidence.empty(); }
    Network &network();   // throws Error if there is none
    void check_guided();  // throws Error for a network that takes landmarks and nothing finds them

    Matrix crop_matrix(const float *box) const { return crop_rule()({box[0], box[1], box[2], box[3]}); }

    // The planes of the picture.
    void crop(const Picture &picture, const Matrix &matrix, float *input);

    // The plane of the landmarks (68, 3), px of the picture. Throws Error if this network takes none.
    void draw(const float *landmarks, const Matrix &matrix, float *input);

    // Runs the network on one face; returns its confidence. Throws Error for numbers that are not finite.
    float infer(const float *input, float *output);

    // One face from the network's output. look.matrix and look.vertices are set before; throws Error for numbers that
    // are not finite.
    void decode(const float *output, Look &look);

    // Looks at `count` faces by their matrices: first once, then again at those whose crop does not fit.
    void see(const Picture &picture, Look *looks, size_t count);

    // The same without a second look. known: the landmarks (68, 3) of every face as they are known before, or NULL for
    // those of which nothing is known; NULL: of none. For networks that take landmarks.
    void see_once(const Picture &picture, Look *looks, size_t count, const float *const *known = nullptr);

    // A second look at those of `count` faces that need one.
    void see_again(const Picture &picture, Look *looks, size_t count);

  private:
    // The landmarks of every face that the network is to be shown.
    const float *const *landmarks_for(const Picture &picture, const Look *looks, size_t count,
                                      const float *const *known);
    void finish(Look &look) const;
    Error unusable(const std::string &fault) const;
    bool wants_another(const Look &look, Matrix &wanted) const;
    Matrix upright_crop(const Look &look) const;

    Spec spec_;
    std::unique_ptr<Family> family_;
    PoseEstimator pose_;
    FaceCropper cropper_;
    std::unique_ptr<Network> network_;
    Mesher *first_ = nullptr;
    bool reuses_landmarks_ = false;
    Matrix first_change_{}; // crop px -> crop px of the first network
    std::vector<Look> first_looks_;
    std::vector<const float *> landmarks_;
    std::vector<DecodeJob> jobs_;
    std::vector<float> spare_vertices_; // of second looks
    std::vector<Look> again_;
    std::vector<size_t> numbers_;
};

} // namespace facemesh
