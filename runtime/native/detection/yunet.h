// Faces of a picture by YuNet (Wu, Peng, Yu 2023); its boxes become tight boxes of the 68 landmarks. See
// runtime/detection.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "detection/box_map.h"
#include "detection/rows.h"
#include "geometry/face_crop.h"
#include "geometry/shrink.h"
#include "include/facemesh.h"

namespace facemesh {

// Two of one face: they share most of the smaller one.
bool shows_same(const YuNetRow &first, const YuNetRow &second);

// YuNet's network at one size of picture after the other.
class YuNetNetwork {
  public:
    virtual ~YuNetNetwork() = default;

    // Appends the faces of the picture reduced to `side` px on its longer side, best first, to `rows`.
    virtual void find(const Picture &picture, int side, std::vector<YuNetRow> &rows) = 0;
};

// Throws Error.
std::unique_ptr<YuNetNetwork> open_onnx_yunet(const std::string &path, float score_threshold, int threads);

class YuNet {
  public:
    YuNet(std::unique_ptr<YuNetNetwork> network, const std::string &box_map, int side);

    // The faces, best first; valid until the next call. is_turned(): a turned picture showed them.
    const std::vector<facemesh_detection> &operator()(const Picture &picture);
    bool is_turned() const { return roll_deg_ != 0; }

  private:
    void find(const Picture &picture, std::vector<YuNetRow> &rows);
    void find_turned(const Picture &picture);

    std::unique_ptr<YuNetNetwork> network_;
    BoxMap box_map_;
    int side_;
    double roll_deg_ = 0;
    std::vector<YuNetRow> rows_, close_up_, others_, small_rows_, turned_, best_turn_;
    Shrinker shrinker_;
    std::vector<uint8_t> small_, turned_picture_;
    std::vector<facemesh_detection> found_;
};

} // namespace facemesh
