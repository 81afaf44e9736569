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

constexpr const char *INPUT = "picture"; // (1, H, W, 3) uint8 BGR, both sides multiples of the last stride
const std::vector<const char *> LEVELS = {"stride_8", "stride_16", "stride_32"}; // (1, 16, H / stride, W / stride)
constexpr int VALUES = 16;
float probability(double a, double b) { return float(std::sqrt(1 / ((1 + std::exp(-a)) * (1 + std::exp(-b))))); }

class OnnxYuNet : public YuNetNetwork {
  public:
    OnnxYuNet(const std::string &path, float score_threshold, int threads)
        : session_(path, std::min(threads, usable_cores())), score_threshold_(score_threshold),
          selector_(score_threshold) {
        const std::vector<TensorForm> inputs = session_.inputs(), outputs = session_.outputs();
        bool fits = inputs.size() == 1 && inputs[0].name == INPUT && outputs.size() == LEVELS.size() &&
                    inputs[0].type == ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8;
        for (size_t level = 0; fits && level < LEVELS.size(); ++level) fits = outputs[level].name == LEVELS[level];
        if (!fits)
            throw bad_file(path, "is not this project's YuNet for pictures of any size; write it with "
                                 "'python -m export detector', without --size");
    }

    void find(const Picture &picture, int side, std::vector<YuNetRow> &rows) override {
        const double scale = double(side) / std::max(picture.width, picture.height);
        const int width = scale >= 1 ? picture.width : std::max(1, int(std::nearbyint(picture.width * scale)));
        const int height = scale >= 1 ? picture.height : std::max(1, int(std::nearbyint(picture.height * scale)));
        resize(width, height);
        load(picture, width, height);
        session_.run(INPUT, input_.get(), LEVELS, results_);
        selector_.clear();
        for (size_t level = 0; level < LEVELS.size(); ++level) collect(level);
        const size_t first = rows.size();
        selector_.select(rows);
        for (size_t i = first; i < rows.size(); ++i) stretch(rows[i], picture, width, height);
    }

  private:
    void resize(int width, int height) {
        const int stride = YUNET_STRIDES[2], padded_w = (width + stride - 1) / stride * stride,
                  padded_h = (height + stride - 1) / stride * stride;
        if (padded_w == width_ && padded_h == height_) return;
        width_ = padded_w;
        height_ = padded_h;
        pixels_.assign(3 * size_t(width_) * height_, 0);
        input_ = tensor_over(pixels_.data(), {1, height_, width_, 3});
        results_.clear();
        for (size_t level = 0; level < LEVELS.size(); ++level) {
            const int64_t columns = width_ / YUNET_STRIDES[level], lines = height_ / YUNET_STRIDES[level];
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
        const double least = double(score_threshold_) * score_threshold_;
        // The score is at most the root of either probability, so few places pass this cheap test.
        const double logit = least > 0 && least < 1 ? std::log(least / (1 - least)) : -INFINITY;
        const int stride = YUNET_STRIDES[level], columns = width_ / stride, lines = height_ / stride;
        const size_t plane = size_t(columns) * lines;
        const float *values = levels_[level].data();
        for (size_t place = 0; place < plane; ++place) {
            if (!(std::min(values[place], values[plane + place]) >= logit)) continue;
            const float score = probability(values[place], values[plane + place]);
            selector_.add(score, int(place % columns), int(place / columns), stride,
                          [&](int number) { return double(values[size_t(2 + number) * plane + place]); });
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
    RowSelector selector_;
    Shrinker shrinker_;
};

} // namespace

std::unique_ptr<YuNetNetwork> open_onnx_yunet(const std::string &path, float score_threshold, int threads) {
    return std::make_unique<OnnxYuNet>(path, score_threshold, threads);
}

} // namespace facemesh
