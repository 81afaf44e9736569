#include "geometry/face_crop.h"

#include <cmath>
#include <cstring>

#include "cpu/lanes.h"
#include "cpu/simd.h"

namespace facemesh {
namespace {

constexpr double MOST_SAMPLES = 8;
constexpr double FINER = 1.5; // pixels per crop pixel of the upright picture that a turned crop is taken from
constexpr double LEAST_SCALE = 1e-7;
constexpr double SAME_SCALE = 1e-3; // relative difference of the axes of a similarity

int samples_for(double scale) { return int(std::clamp(std::nearbyint(1 / scale), 1.0, MOST_SAMPLES)); }

// Pixels of three interleaved channels.
template <typename T> struct Pixels {
    const T *first;
    int width, height;
    ptrdiff_t row; // numbers from row to row
    float border;  // beyond the edges

    float at(int x, int y, int c) const {
        return x >= 0 && y >= 0 && x < width && y < height ? float(first[y * row + 3 * x + c]) : border;
    }
};

FACEMESH_INLINE Point loaded(const float *pixel) {
    Point point;
    std::memcpy(&point, pixel, sizeof point);
    return point;
}

FACEMESH_INLINE Point loaded(const uint8_t *pixel) {
    uint32_t bytes;
    std::memcpy(&bytes, pixel, sizeof bytes);
    return widened(bytes);
}

FACEMESH_INLINE Point blended(Point a, Point b, Point c, Point d, float x, float y) {
    const Point upper = a + x * (b - a), lower = c + x * (d - c);
    return upper + y * (lower - upper);
}

// One row of a picture, mapped back to its source: x -> (x_step * x + x_start, y_step * x + y_start).
template <typename T> struct RowMap {
    Pixels<T> source;
    double x_step, x_start, y_step, y_start;

    RowMap(const Pixels<T> &pixels, const Matrix &m, int y)
        : source(pixels), x_step(m[0]), x_start(m[1] * y + m[2]), y_step(m[3]), y_start(m[4] * y + m[5]) {}

    // True if all four pixels round the place are there; a load has a fourth number, of the next pixel.
    bool is_inside(int x) const {
        const double u = x_step * x + x_start, v = y_step * x + y_start;
        return u >= 0 && v >= 0 && u < source.width - 2 && v < source.height - 1;
    }

    FACEMESH_INLINE Point inner(int x) const {
        const double u = x_step * x + x_start, v = y_step * x + y_start;
        const int left = int(u), top = int(v);
        const T *origin = source.first + top * source.row + 3 * left;
        return blended(loaded(origin), loaded(origin + 3), loaded(origin + source.row), loaded(origin + source.row + 3),
                       float(u - left), float(v - top));
    }

    // Anywhere; far outside is outside, so that the numbers fit.
    Point outer(int x) const {
        const double u = std::clamp(x_step * x + x_start, -2.0, source.width + 1.0);
        const double v = std::clamp(y_step * x + y_start, -2.0, source.height + 1.0);
        const int left = int(u + 2) - 2, top = int(v + 2) - 2;
        Point corners[4] = {};
        for (int corner = 0; corner < 4; ++corner)
            for (int c = 0; c < 3; ++c) corners[corner][c] = source.at(left + corner % 2, top + corner / 2, c);
        return blended(corners[0], corners[1], corners[2], corners[3], float(u - left), float(v - top));
    }
};

struct Span {
    int begin, end;
};

// The places of a row that lie inside: they are neighbours, for the map is straight.
template <typename T> Span inner_span(const RowMap<T> &map, int width) {
    Span span{0, width};
    while (span.begin < span.end && !map.is_inside(span.begin)) ++span.begin;
    while (span.begin < span.end && !map.is_inside(span.end - 1)) --span.end;
    return span;
}

FACEMESH_MULTIVERSION
void warp_inside(const RowMap<uint8_t> &map, Span span, uint8_t *out) {
    const RowMap<uint8_t> row = map; // bytes that are written could be those of `map`
    for (int x = span.begin; x < span.end; ++x) {
        const uint32_t bytes = narrowed(row.inner(x));
        std::memcpy(out + 3 * x, &bytes, 3);
    }
}

FACEMESH_MULTIVERSION
void warp_inside(const RowMap<float> &map, Span span, float *out, ptrdiff_t plane, int step) {
    const RowMap<float> row = map;
    for (int x = span.begin; x < span.end; ++x) {
        const Point point = row.inner(x);
        out[x * step] = point[0];
        out[x * step + plane] = point[1];
        out[x * step + 2 * plane] = point[2];
    }
}

void warp_row(const RowMap<uint8_t> &map, int width, uint8_t *out) {
    const Span span = inner_span(map, width);
    warp_inside(map, span, out);
    for (int x = 0; x < width; ++x) {
        if (x >= span.begin && x < span.end) continue;
        const uint32_t bytes = narrowed(map.outer(x));
        std::memcpy(out + 3 * x, &bytes, 3);
    }
}

void warp_row(const RowMap<float> &map, int width, float *out, ptrdiff_t plane, int step) {
    const Span span = inner_span(map, width);
    warp_inside(map, span, out, plane, step);
    for (int x = 0; x < width; ++x) {
        if (x >= span.begin && x < span.end) continue;
        const Point point = map.outer(x);
        for (int c = 0; c < 3; ++c) out[x * step + c * plane] = point[c];
    }
}

} // namespace

bool is_sound(const Matrix &m) {
    for (double number : m)
        if (!std::isfinite(number)) return false;
    const double scale = std::sqrt(std::fabs(area_of(m)));
    const bool is_similar = std::fabs(m[0] - m[4]) + std::fabs(m[1] + m[3]) <= SAME_SCALE * scale;
    return is_similar && scale >= LEAST_SCALE && scale <= 1 / LEAST_SCALE;
}

void warp_bytes(const Picture &picture, const Matrix &matrix, int width, int height, uint8_t *out) {
    const Pixels<uint8_t> source{picture.pixels, picture.width, picture.height, picture.row_stride, 0};
    const Matrix back = inverse(matrix);
    for (int y = 0; y < height; ++y) warp_row(RowMap<uint8_t>(source, back, y), width, out + 3 * ptrdiff_t(y) * width);
}

void FaceCropper::operator()(const Picture &picture, const Matrix &m, const InputFormat &format, float *out) {
    const double scale = std::sqrt(std::fabs(area_of(m)));
    const int samples = samples_for(scale);
    if (m[0] > 0 && m[0] == m[4] && m[1] == 0 && m[3] == 0) {
        crop_axis_aligned(picture.pixels, picture.height, picture.width, picture.row_stride, m[0], m[2], m[5],
                          samples_for(m[0]), format, out, memory_);
    } else if (samples > 1) {
        turn(picture, m, format, out);
    } else {
        warped_.resize(3 * size_t(format.size) * format.size);
        warp_bytes(picture, m, format.size, format.size, warped_.data());
        finish_crop(warped_.data(), format, out);
    }
}

// An upright crop around the turned one first, antialiased, then turned.
void FaceCropper::turn(const Picture &picture, const Matrix &m, const InputFormat &format, float *out) {
    const double scale = std::sqrt(std::fabs(area_of(m))), middle = (format.size - 1) / 2.0;
    const int side = int(std::ceil(FINER * format.size * (std::fabs(m[0]) + std::fabs(m[1])) / scale)) + 4;
    const double finer = FINER * scale, area = area_of(m), u = middle - m[2], v = middle - m[5];
    const double shift_x = (side - 1) / 2.0 - finer * (m[4] * u - m[1] * v) / area;
    const double shift_y = (side - 1) / 2.0 - finer * (m[0] * v - m[3] * u) / area;
    InputFormat larger = format;
    larger.size = side;
    larger.channels_last = true;
    upright_.resize(3 * size_t(side) * side);
    crop_axis_aligned(picture.pixels, picture.height, picture.width, picture.row_stride, finer, shift_x, shift_y,
                      samples_for(finer), larger, upright_.data(), memory_);
    const Matrix back = inverse({m[0] / finer, m[1] / finer, m[2] - (m[0] * shift_x + m[1] * shift_y) / finer,
                                 m[3] / finer, m[4] / finer, m[5] - (m[3] * shift_x + m[4] * shift_y) / finer});
    const Pixels<float> source{upright_.data(), side, side, 3 * ptrdiff_t(side), format.low};
    const ptrdiff_t plane = format.channels_last ? 1 : ptrdiff_t(format.size) * format.size;
    const int step = format.channels_last ? 3 : 1;
    for (int y = 0; y < format.size; ++y)
        warp_row(RowMap<float>(source, back, y), format.size, out + ptrdiff_t(y) * format.size * step, plane, step);
}

} // namespace facemesh
