// From YuNet's boxes to the tight boxes of the 68 landmarks: see runtime/detection/box_map.py.
#pragma once

#include <string>
#include <vector>

#include "detection/rows.h"
#include "include/facemesh.h"

namespace facemesh {

class BoxMap {
  public:
    // Throws Error for a file that is missing or damaged.
    explicit BoxMap(const std::string &path);

    // The detection of a row in a picture of width x height px.
    facemesh_detection operator()(const YuNetRow &row, double width, double height) const;

  private:
    std::vector<double> coefficients_; // (55, 4)
};

} // namespace facemesh
