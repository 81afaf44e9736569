#include "detection/rows.h"

#include <algorithm>

namespace facemesh {
namespace {

constexpr size_t MOST_CANDIDATES = 5000;
constexpr float NMS_IOU = 0.3f;
constexpr float FAR = 1e8f; // no picture is so large

// Intersection over union of boxes of whole px, as in OpenCV.
float whole_iou(const YuNetRow &first, const YuNetRow &second) {
    int a[4], b[4];
    for (int i = 0; i < 4; ++i) {
        a[i] = int(first.box[i]);
        b[i] = int(second.box[i]);
    }
    const double width = std::min(double(a[0]) + a[2], double(b[0]) + b[2]) - std::max(a[0], b[0]);
    const double height = std::min(double(a[1]) + a[3], double(b[1]) + b[3]) - std::max(a[1], b[1]);
    const double all = double(a[2]) * a[3] + double(b[2]) * b[3];
    if (all <= 0) return 1;
    const double shared = width > 0 && height > 0 ? width * height : 0;
    return float(shared / (all - shared));
}

} // namespace

void RowSelector::add(const YuNetRow &row) {
    if (std::all_of(row.box, row.box + 4, [](float number) { return std::fabs(number) < FAR; }))
        candidates_.push_back(row);
}

void RowSelector::select(std::vector<YuNetRow> &rows) {
    order_.clear();
    for (size_t i = 0; i < candidates_.size(); ++i)
        if (candidates_[i].score > score_threshold_) order_.push_back(i);
    std::sort(order_.begin(), order_.end(), [&](size_t a, size_t b) {
        const float first = candidates_[a].score, second = candidates_[b].score;
        return first != second ? first > second : a < b;
    });
    order_.resize(std::min(order_.size(), MOST_CANDIDATES));
    const auto start = std::ptrdiff_t(rows.size());
    for (size_t number : order_) {
        const YuNetRow &row = candidates_[number];
        const auto hides = [&](const YuNetRow &kept) { return whole_iou(row, kept) > NMS_IOU; };
        if (std::none_of(rows.begin() + start, rows.end(), hides)) rows.push_back(row);
    }
}

} // namespace facemesh
