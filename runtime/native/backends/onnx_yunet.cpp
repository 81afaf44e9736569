// YuNet's network through ONNX Runtime: see runtime/detection/onnx_yunet.py and yunet_rows.py.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "geometry/shrink.h"
#include "library/error.h"
#include "backends/onnx_session.h"
#include "detection/yunet.h"

namespace facemesh {
namespace {

constexpr int STRIDES[] = {8, 16, 32};
constexpr const char *INPUT = "picture"; // (1, H, W, 3) uint8 BGR, both sides multiples of the last stride
const std::vector<const char *> LEVELS = {"stride_8", "stride_16", "stride_32"}; // (1, 16, H / stride, W / stride)
constexpr int VALUES = 16;
constexpr size_t MOST_CANDIDATES = 5000;
constexpr float NMS_IOU = 0.3f;

float probability(double a, double b) { return float(std::sqrt(1 / ((1 + std::exp(-a)) * (1 + std::exp(-b))))); }

// Intersection over union of boxes of whole px, as in OpenCV.
float whole_iou(const YuNetRow &first, const YuNetRow &second) {
    int a[4], b[4];
    for (int i = 0; i < 4; ++i) {
        a[i] = int(first.box[i]);
        b[i] = int(second.box[i]);
    }
    const int width = std::min(a[0] + a[2], b[0] + b[2]) - std::max(a[0], b[0]);
    const int height = std::min(a[1] + a[3], b[1] + b[3]) - std::max(a[1], b[1]);
    const double all = double(a[2]) * a[3] + double(b[2]) * b[3];
    if (all <= 0) return 1;
    const double shared = width > 0 && height > 0 ? double(width) * height : 0;
    return float(shared / (all - shared));
}

class OnnxYuNet : public YuNetNetwork {
  public:
    OnnxYuNet(const std::string &path, float score_threshold, int threads)
        : session_(path, std::min(threads, usable_cores())), score_threshold_(score_threshold) {
        const std::vector<TensorForm> inputs = session_.inputs(), outputs = session_.outputs();
        bool fits = inputs.size() == 1 && inputs[0].name == INPUT && outputs.size() == LEVELS.size() &&
                    inputs[0].type == ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8;
        for (size_t level = 0; fits && level < LEVELS.size(); ++level) fits = outputs[level].name == LEVELS[level];
        if (!fits) throw bad_file(path, "is not this project's YuNet; write it with 'python -m export detector'");
    }

    void find(const Picture &picture, int side, std::vector<YuNetRow> &rows) override {
        const double scale = double(side) / std::max(picture.width, picture.height);
        const int width = scale >= 1 ? picture.width : std::max(1, int(std::nearbyint(picture.width * scale)));
        const int height = scale >= 1 ? picture.height : std::max(1, int(std::nearbyint(picture.height * scale)));
        resize(width, height);
        load(picture, width, height);
        session_.run(INPUT, input_.get(), LEVELS, results_);
        candidates_.clear();
        for (size_t level = 0; level < LEVELS.size(); ++level) collect(level);
        const size_t first = rows.size();
        suppress(rows);
        for (size_t i = first; i < rows.size(); ++i) stretch(rows[i], picture, width, height);
    }

  private:
    void resize(int width, int height) {
        const int stride = STRIDES[2], padded_w = (width + stride - 1) / stride * stride,
                  padded_h = (height + stride - 1) / stride * stride;
        if (padded_w == width_ && padded_h == height_) return;
        width_ = padded_w;
        height_ = padded_h;
        pixels_.assign(3 * size_t(width_) * height_, 0);
        input_ = tensor_over(pixels_.data(), {1, height_, width_, 3});
        results_.clear();
        for (size_t level = 0; level < LEVELS.size(); ++level) {
            const int64_t columns = width_ / STRIDES[level], lines = height_ / STRIDES[level];
            levels_[level].assign(size_t(VALUES * columns * lines), 0);
            tensors_[level] = tensor_over(levels_[level].data(), {1, VALUES, lines, columns});
            results_.push_back(tensors_[level].get());
        }
    }

    // The picture in the upper left corner of the input, black beside it.
    void load(const Picture &picture, int width, int height) {
        const int64_t row_bytes = 3 * int64_t(width_);
        if (width != picture.width || height != picture.height || picture.is_rgb) {
            shrinker_(picture, width, height, picture.is_rgb, pixels_.data(), row_bytes);
        } else {
            for (int y = 0; y < height; ++y)
                std::memcpy(pixels_.data() + y * row_bytes, picture.pixels + y * picture.row_stride, 3 * size_t(width));
        }
        for (int y = 0; y < height_; ++y) {
            const int filled = y < height ? width : 0;
            std::memset(pixels_.data() + y * row_bytes + 3 * filled, 0, 3 * size_t(width_ - filled));
        }
    }

    void collect(size_t level) {
        const double stride = STRIDES[level], least = double(score_threshold_) * score_threshold_;
        // The score is at most the root of either probability, so few places pass this cheap test.
        const double logit = least > 0 && least < 1 ? std::log(least / (1 - least)) : -INFINITY;
        const int columns = width_ / STRIDES[level], lines = height_ / STRIDES[level];
        const size_t plane = size_t(columns) * lines;
        const float *values = levels_[level].data();
        for (size_t place = 0; place < plane; ++place) {
            if (!(std::min(values[place], values[plane + place]) >= logit)) continue;
            const auto value = [&](int number) { return double(values[number * plane + place]); };
            YuNetRow row;
            row.score = probability(value(0), value(1));
            if (!(row.score >= score_threshold_)) continue;
            const double x = double(place % columns), y = double(place / columns);
            const double w = std::exp(value(4)) * stride, h = std::exp(value(5)) * stride;
            const double numbers[4] = {(value(2) + x) * stride - w / 2, (value(3) + y) * stride - h / 2, w, h};
            for (int i = 0; i < 4; ++i) row.box[i] = float(numbers[i]);
            for (int i = 0; i < 10; ++i) row.points[i] = float((value(6 + i) + (i % 2 ? y : x)) * stride);
            if (std::all_of(row.box, row.box + 4, [](float number) { return std::fabs(number) < 1e8f; }))
                candidates_.push_back(row);
        }
    }

    // Of overlapping faces the best is kept.
    void suppress(std::vector<YuNetRow> &rows) {
        order_.clear();
        for (size_t i = 0; i < candidates_.size(); ++i)
            if (candidates_[i].score > score_threshold_) order_.push_back(i);
        std::sort(order_.begin(), order_.end(), [&](size_t a, size_t b) {
            const float first = candidates_[a].score, second = candidates_[b].score;
            return first != second ? first > second : a < b;
        });
        order_.resize(std::min(order_.size(), MOST_CANDIDATES));
        const size_t start = rows.size();
        for (size_t number : order_) {
            const YuNetRow &row = candidates_[number];
            const auto hides = [&](const YuNetRow &kept) { return whole_iou(row, kept) > NMS_IOU; };
            if (std::none_of(rows.begin() + std::ptrdiff_t(start), rows.end(), hides)) rows.push_back(row);
        }
    }

    static void stretch(YuNetRow &row, const Picture &picture, int width, int height) {
        const float x = float(double(picture.width) / width), y = float(double(picture.height) / height);
        for (int i = 0; i < 4; ++i) row.box[i] *= i % 2 ? y : x;
        for (int i = 0; i < 10; ++i) row.points[i] *= i % 2 ? y : x;
    }

    OnnxSession session_;
    float score_threshold_;
    int width_ = 0, height_ = 0; // of the input
    std::vector<uint8_t> pixels_;
    std::vector<float> levels_[3];
    OrtTensor input_, tensors_[3];
    std::vector<OrtValue *> results_;
    std::vector<YuNetRow> candidates_;
    std::vector<size_t> order_;
    Shrinker shrinker_;
};

} // namespace

std::unique_ptr<YuNetNetwork> open_onnx_yunet(const std::string &path, float score_threshold, int threads) {
    return std::make_unique<OnnxYuNet>(path, score_threshold, threads);
}

} // namespace facemesh
