#include "detection/yunet.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace facemesh {
namespace {

// As in runtime/detection/yunet.py, which says why.
constexpr int DETECTION_SIDE = 640, LARGE_PICTURE = 2560, LARGE_SIDE = 1280, CLOSE_UP_SIDE = 320;
constexpr double CLOSE_UP_SHARE = 0.5;
constexpr float SURE_SCORE = 0.85f, TURNED_SCORE = 0.75f;
constexpr double SAME_FACE = 0.6;

struct Turn {
    int side; // that the picture is reduced to
    std::vector<double> rolls_deg;
};
const Turn TURNS[] = {{CLOSE_UP_SIDE, {90, 180, -90}}, {226, {45, 135, -135, -45}}};

float best_of(const std::vector<YuNetRow> &rows) {
    float best = 0;
    for (const YuNetRow &row : rows) best = std::max(best, row.score);
    return best;
}

float largest_of(const std::vector<YuNetRow> &rows, float otherwise) {
    float largest = rows.empty() ? otherwise : 0;
    for (const YuNetRow &row : rows) largest = std::max({largest, row.box[2], row.box[3]});
    return largest;
}

// Adds the rows that show faces of their own.
void merge(std::vector<YuNetRow> &kept, const YuNetRow *rows, size_t count) {
    const size_t before = kept.size();
    for (size_t i = 0; i < count; ++i) {
        const auto last = kept.begin() + std::ptrdiff_t(before);
        if (std::none_of(kept.begin(), last, [&](const YuNetRow &other) { return shows_same(rows[i], other); }))
            kept.push_back(rows[i]);
    }
}

// Stable, and in place: there are few rows.
void sort_by_score(std::vector<YuNetRow> &rows) {
    const auto surer = [](const YuNetRow &first, const YuNetRow &second) { return first.score > second.score; };
    for (auto row = rows.begin(); row != rows.end(); ++row)
        std::rotate(std::upper_bound(rows.begin(), row, *row, surer), row, row + 1);
}

// px of the picture -> px of the one turned so that faces with roll_deg are upright, and its size.
Matrix turn_matrix(int width, int height, double roll_deg, int &turned_w, int &turned_h) {
    const double c = std::cos(roll_deg * DEGREE), s = std::sin(roll_deg * DEGREE);
    const double x = (width - 1) / 2.0, y = (height - 1) / 2.0;
    turned_w = std::max(1, int(std::nearbyint(std::fabs(c) * width + std::fabs(s) * height)));
    turned_h = std::max(1, int(std::nearbyint(std::fabs(s) * width + std::fabs(c) * height)));
    return {c,  s, (1 - c) * x - s * y + (turned_w - width) / 2.0,
            -s, c, s * x + (1 - c) * y + (turned_h - height) / 2.0};
}

Picture turned(const Picture &picture, double roll_deg, std::vector<uint8_t> &memory) {
    int width, height;
    const Matrix matrix = turn_matrix(picture.width, picture.height, roll_deg, width, height);
    memory.resize(3 * size_t(width) * height);
    warp_bytes(picture, matrix, width, height, memory.data());
    return {memory.data(), height, width, 3 * int64_t(width), picture.is_rgb};
}

// A detection in a turned picture, in px of the picture itself.
void turn_back(facemesh_detection &face, const Matrix &back, double roll_deg) {
    float half[2] = {(face.box[2] - face.box[0]) / 2, (face.box[3] - face.box[1]) / 2};
    const double x = (face.box[0] + face.box[2]) / 2, y = (face.box[1] + face.box[3]) / 2;
    if (std::fabs(roll_deg) == 90) std::swap(half[0], half[1]);
    const double centre[2] = {back[0] * x + back[1] * y + back[2], back[3] * x + back[4] * y + back[5]};
    for (int i = 0; i < 4; ++i) face.box[i] = float(centre[i % 2] + (i < 2 ? -half[i % 2] : half[i % 2]));
    face.roll = float(roll_deg);
}

} // namespace

bool shows_same(const YuNetRow &first, const YuNetRow &second) {
    float sides[2], areas[2] = {first.box[2] * first.box[3], second.box[2] * second.box[3]};
    for (int axis = 0; axis < 2; ++axis) {
        const float low = std::max(first.box[axis], second.box[axis]);
        const float high = std::min(first.box[axis] + first.box[2 + axis], second.box[axis] + second.box[2 + axis]);
        sides[axis] = std::max(0.0f, high - low);
    }
    return sides[0] * sides[1] > float(SAME_FACE) * std::min(areas[0], areas[1]);
}

YuNet::YuNet(std::unique_ptr<YuNetNetwork> network, const std::string &box_map, int side)
    : network_(std::move(network)), box_map_(box_map), side_(side) {}

const std::vector<facemesh_detection> &YuNet::operator()(const Picture &picture) {
    roll_deg_ = 0;
    find(picture, rows_);
    if (best_of(rows_) < SURE_SCORE) find_turned(picture);
    int width = picture.width, height = picture.height;
    Matrix back{};
    if (roll_deg_ != 0) back = inverse(turn_matrix(picture.width, picture.height, roll_deg_, width, height));
    found_.clear();
    for (const YuNetRow &row : rows_) {
        found_.push_back(box_map_(row, width, height));
        if (roll_deg_ != 0) turn_back(found_.back(), back, roll_deg_);
    }
    return found_;
}

void YuNet::find(const Picture &picture, std::vector<YuNetRow> &rows) {
    const float longer = float(std::max(picture.width, picture.height));
    rows.clear();
    network_->find(picture, side_ ? side_ : DETECTION_SIDE, rows);
    if (side_ == 0 && longer > LARGE_PICTURE) {
        close_up_.clear();
        network_->find(picture, LARGE_SIDE, close_up_);
        merge(rows, close_up_.data(), close_up_.size());
    }
    if (longer > CLOSE_UP_SIDE && largest_of(rows, longer) > CLOSE_UP_SHARE * longer) {
        // Large faces first by the close look, then what the others say, then its small faces.
        close_up_.clear();
        network_->find(picture, CLOSE_UP_SIDE, close_up_);
        others_.swap(rows);
        rows.clear();
        small_rows_.clear();
        for (const YuNetRow &row : close_up_) {
            const bool is_large = std::max(row.box[2], row.box[3]) > CLOSE_UP_SHARE / 2 * longer;
            (is_large ? rows : small_rows_).push_back(row);
        }
        merge(rows, others_.data(), others_.size());
        merge(rows, small_rows_.data(), small_rows_.size());
    }
    sort_by_score(rows);
}

// Replaces rows_ by those of a turn that shows a surer face, in px of the turned picture.
void YuNet::find_turned(const Picture &picture) {
    const float upright = best_of(rows_);
    const int longer = std::max(picture.width, picture.height);
    for (const Turn &turn : TURNS) {
        Picture small = picture;
        if (longer > turn.side) {
            const double scale = double(turn.side) / longer;
            small.width = std::max(1, int(std::nearbyint(picture.width * scale)));
            small.height = std::max(1, int(std::nearbyint(picture.height * scale)));
            small.row_stride = 3 * int64_t(small.width);
            small_.resize(size_t(small.row_stride) * small.height);
            shrinker_(picture, small.width, small.height, false, small_.data(), small.row_stride);
            small.pixels = small_.data();
        }
        best_turn_.clear();
        double best_roll = turn.rolls_deg[0];
        for (double roll_deg : turn.rolls_deg) {
            turned_.clear();
            network_->find(turned(small, roll_deg, turned_picture_), CLOSE_UP_SIDE, turned_);
            if (best_of(turned_) > best_of(best_turn_)) {
                best_turn_.swap(turned_);
                best_roll = roll_deg;
            }
        }
        if (best_of(best_turn_) <= upright) continue;
        // Now that the turn is known, a search at full size finds small faces, too, and is surer.
        const float growth = float(double(longer) / std::max(small.width, small.height));
        for (YuNetRow &row : best_turn_) {
            for (float &number : row.box) number *= growth;
            for (float &number : row.points) number *= growth;
        }
        find(turned(picture, best_roll, turned_picture_), turned_);
        merge(turned_, best_turn_.data(), best_turn_.size());
        if (best_of(turned_) >= TURNED_SCORE) {
            rows_.swap(turned_);
            roll_deg_ = best_roll;
            return;
        }
    }
}

} // namespace facemesh
