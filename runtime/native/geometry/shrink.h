// A picture made smaller: every pixel is the mean of the area that it covers, as in cv2.INTER_AREA.
#pragma once

#include <cstdint>
#include <vector>

#include "geometry/face_crop.h"

namespace facemesh {

class Shrinker {
  public:
    // out: (height, width, 3), rows `row_bytes` apart; height and width are at most those of the picture.
    // swap: the first and third channel change places.
    void operator()(const Picture &picture, int width, int height, bool swap, uint8_t *out, int64_t row_bytes);

  private:
    struct Part { // of a source row or column in a target one
        int target, source;
        float share;
    };
    static void make_parts(int source, int target, std::vector<Part> &parts);

    std::vector<Part> columns_, rows_;
    std::vector<float> row_, sum_;
};

} // namespace facemesh
