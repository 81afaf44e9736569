// Colours at fixed places of a face, which tell the people of one film apart: see runtime/tracking/appearance.py.
#pragma once

#include <vector>

#include "geometry/face_crop.h"

namespace facemesh {

// A vector of length 1; empty: not known.
using Appearance = std::vector<float>;

// landmarks: (68, 3) px of a face of `size` px.
Appearance appearance_of(const Picture &picture, const float *landmarks, double size);

// After another look at the same face.
Appearance blend(const Appearance &old, const Appearance &now);

// 0 not at all, about 1 in everything; 0 where one is not known.
double difference(const Appearance &first, const Appearance &second);

} // namespace facemesh
