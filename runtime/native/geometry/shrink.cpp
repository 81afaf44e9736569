#include "geometry/shrink.h"

#include <cmath>
#include <cstring>

namespace facemesh {
namespace {

constexpr double LEAST_SHARE = 1e-3; // of a source pixel, below which it does not count

void write_pixel(const float *colours, bool swap, uint8_t *out) {
    for (int c = 0; c < 3; ++c) out[swap ? 2 - c : c] = uint8_t(std::clamp(int(std::nearbyint(colours[c])), 0, 255));
}

// Whole blocks of pixels: sums of integers.
void shrink_blocks(const Picture &picture, int width, int height, int block_w, int block_h, bool swap, uint8_t *out,
                   int64_t row_bytes) {
    const float share = 1.0f / float(block_w * block_h);
    for (int y = 0; y < height; ++y)
        for (int x = 0; x < width; ++x) {
            int sums[3] = {};
            for (int row = 0; row < block_h; ++row) {
                const uint8_t *pixel =
                    picture.pixels + (int64_t(y) * block_h + row) * picture.row_stride + 3 * int64_t(x) * block_w;
                for (int column = 0; column < block_w; ++column, pixel += 3)
                    for (int c = 0; c < 3; ++c) sums[c] += pixel[c];
            }
            float colours[3];
            for (int c = 0; c < 3; ++c)
                colours[c] = block_w == 2 && block_h == 2 ? float((sums[c] + 2) >> 2) : float(sums[c]) * share;
            write_pixel(colours, swap, out + y * row_bytes + 3 * x);
        }
}

} // namespace

void Shrinker::make_parts(int source, int target, std::vector<Part> &parts) {
    parts.clear();
    const double scale = double(source) / target;
    for (int place = 0; place < target; ++place) {
        const double start = place * scale, end = start + scale, width = std::min(scale, source - start);
        const int last = std::min(int(std::floor(end)), source - 1), first = std::min(int(std::ceil(start)), last);
        if (first - start > LEAST_SHARE) parts.push_back({place, first - 1, float((first - start) / width)});
        for (int whole = first; whole < last; ++whole) parts.push_back({place, whole, float(1 / width)});
        if (end - last > LEAST_SHARE)
            parts.push_back({place, last, float(std::min(std::min(end - last, 1.0), width) / width)});
    }
}

void Shrinker::operator()(const Picture &picture, int width, int height, bool swap, uint8_t *out, int64_t row_bytes) {
    if (picture.width % width == 0 && picture.height % height == 0) {
        shrink_blocks(picture, width, height, picture.width / width, picture.height / height, swap, out, row_bytes);
        return;
    }
    make_parts(picture.width, width, columns_);
    make_parts(picture.height, height, rows_);
    const size_t length = 3 * size_t(width);
    row_.resize(length);
    sum_.assign(length, 0.0f);
    int target = rows_.empty() ? 0 : rows_.front().target;
    const auto finish = [&](int y) {
        for (int x = 0; x < width; ++x) write_pixel(sum_.data() + 3 * x, swap, out + y * row_bytes + 3 * x);
    };
    for (const Part &row : rows_) {
        std::fill(row_.begin(), row_.end(), 0.0f);
        const uint8_t *source = picture.pixels + row.source * picture.row_stride;
        for (const Part &column : columns_) {
            const uint8_t *pixel = source + 3 * int64_t(column.source);
            float *sum = row_.data() + 3 * column.target;
            for (int c = 0; c < 3; ++c) sum[c] += float(pixel[c]) * column.share;
        }
        if (row.target != target) {
            finish(target);
            target = row.target;
            std::fill(sum_.begin(), sum_.end(), 0.0f);
        }
        for (size_t i = 0; i < length; ++i) sum_[i] += row.share * row_[i];
    }
    finish(target);
}

} // namespace facemesh
