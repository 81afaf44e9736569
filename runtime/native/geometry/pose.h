// Head pose from 68 landmarks: see runtime/geometry/pose.py.
#pragma once

#include <vector>

#include "geometry/similarity.h"

namespace facemesh {

struct Pose {
    double yaw_deg, pitch_deg, roll_deg; // all zero looks straight into the camera
};

// The rotation from canonical landmarks to predicted ones, weighted least squares (Horn, JOSA A 1987).
class PoseEstimator {
  public:
    explicit PoseEstimator(const std::vector<double> &canonical_landmarks); // (68, 3)

    // landmarks: (68, 3), finite, not all the same; scale and place do not matter.
    Pose operator()(const float *landmarks) const;

  private:
    std::vector<double> weighted_; // (68, 3), each axis sums to 0
};

// How far the head is turned in the plane of the picture, degrees clockwise, -180..180.
double picture_roll_deg(const Pose &pose);

// The roll that a crop leaves of it, degrees in -180..180.
double roll_in_crop_deg(const Pose &pose, const Matrix &crop);

} // namespace facemesh
