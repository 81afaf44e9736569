// The crop for a face's next frame, from its landmarks in this one: see runtime/tracking/face_crop.py.
#pragma once

#include <array>

#include "geometry/similarity.h"
#include "include/facemesh.h"
#include "tracking/motion.h"

namespace facemesh {

class FollowCrop {
  public:
    FollowCrop(const CropRule &rule, const facemesh_tracker_params &params) : rule_(rule), params_(params) {}

    // The next box counts as it is.
    void reset() { has_past_ = false; }

    // Moves to landmarks (68, 3) px of a face of `size` px and roll_deg, dt seconds after the last ones.
    void follow(const float *landmarks, double roll_deg, double dt, double size);

    // Follows a change of the frame's size.
    void rescale(double factor);

    Matrix matrix();                                             // round the last box, frame px -> crop px
    Matrix matrix_at(const Place &place, double roll_deg) const; // of a face that is expected at a place

  private:
    using Numbers = std::array<double, 5>; // x, y of the middle, width and height, px; then the roll's arc, px

    void filter(const Numbers &numbers, double dt, double size);
    Matrix matrix_of(double x, double y, double width, double height, double roll_deg) const;

    CropRule rule_;
    facemesh_tracker_params params_;
    bool has_past_ = false, is_turned_ = false;
    Numbers numbers_{}, filtered_{}, speeds_{};
    double size_ = 1; // px, unit of the arc
};

} // namespace facemesh
