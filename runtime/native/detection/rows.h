// YuNet's faces from what its network says at each place: see runtime/detection/yunet_rows.py.
#pragma once

#include <cstddef>
#include <vector>

namespace facemesh {

constexpr int YUNET_STRIDES[] = {8, 16, 32};

// x, y, w, h and five points (x, y), px; right eye, left eye, nose tip, mouth corners.
struct YuNetRow {
    float box[4], points[10], score;
};

// Candidates of one picture, then the best of those that overlap.
class RowSelector {
  public:
    explicit RowSelector(float score_threshold) : score_threshold_(score_threshold) {}

    void clear() { candidates_.clear(); }

    // A candidate; one with numbers that no picture has is left out.
    void add(const YuNetRow &row);

    // One place, in column x and line y of a stride. value(0..3) are the box, value(4..13) the points, in strides.
    template <typename Value> void add(float score, int x, int y, int stride, Value value);

    // Appends the faces, best first.
    void select(std::vector<YuNetRow> &rows);

  private:
    float score_threshold_;
    std::vector<YuNetRow> candidates_;
    std::vector<size_t> order_;
};

} // namespace facemesh

#include <cmath>

template <typename Value> void facemesh::RowSelector::add(float score, int x, int y, int stride, Value value) {
    if (!(score >= score_threshold_)) return;
    YuNetRow row;
    row.score = score;
    const double w = std::exp(double(value(2))) * stride, h = std::exp(double(value(3))) * stride;
    row.box[0] = float((value(0) + double(x)) * stride - w / 2);
    row.box[1] = float((value(1) + double(y)) * stride - h / 2);
    row.box[2] = float(w);
    row.box[3] = float(h);
    for (int i = 0; i < 10; ++i) row.points[i] = float((value(4 + i) + double(i % 2 ? y : x)) * stride);
    add(row);
}
