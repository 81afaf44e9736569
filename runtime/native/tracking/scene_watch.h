// Cuts of a film: frames whose picture has nothing to do with the one before. See runtime/tracking/scene.py.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "geometry/face_crop.h"
#include "tracking/scene.h"

namespace facemesh {

class SceneWatch {
  public:
    bool is_cut = false; // the last frame begins another scene

    void look(const Picture &picture) {
        const int rows = std::min(ROWS, picture.height), columns = std::min(COLUMNS, picture.width);
        std::array<uint8_t, ROWS * COLUMNS> now;
        scene_grid(picture.pixels, picture.height, picture.width, picture.row_stride, rows, columns, now.data());
        is_cut = false;
        if (rows == rows_ && columns == columns_) {
            const SceneChange change = scene_change(before_.data(), now.data(), rows * columns, CHANGE);
            is_cut = change.changed >= LEAST_CHANGED && change.likeness < LEAST_LIKENESS;
        }
        before_ = now;
        rows_ = rows;
        columns_ = columns;
    }

  private:
    static constexpr int ROWS = 9, COLUMNS = 16;  // pixels that are compared
    static constexpr int CHANGE = 10;             // grey levels
    static constexpr double LEAST_CHANGED = 0.3;  // share of the pixels in a cut
    static constexpr double LEAST_LIKENESS = 0.5; // correlation of two frames of one scene

    std::array<uint8_t, ROWS * COLUMNS> before_{};
    int rows_ = 0, columns_ = 0;
};

} // namespace facemesh
