#include "geometry/face_crop.h"

#include <cmath>
#include <cstring>

namespace facemesh {
namespace {

constexpr double MOST_SAMPLES = 8;
constexpr double FINER = 1.5; // pixels per crop pixel of the upright picture that a turned crop is taken from
constexpr double LEAST_SCALE = 1e-7;

int samples_for(double scale) { return int(std::clamp(std::nearbyint(1 / scale), 1.0, MOST_SAMPLES)); }

// Bilinear samples of one interleaved or planar picture. step: from pixel to pixel, row: from row to row.
template <typename T, int CHANNELS> struct Source {
    const T *pixels;
    int width, height;
    ptrdiff_t step, row;
    float border;

    void sample(double x, double y, float *out) const {
        if (!(x > -1 && y > -1 && x < width && y < height)) {
            for (int c = 0; c < CHANNELS; ++c) out[c] = border;
            return;
        }
        const int left = int(std::floor(x)), top = int(std::floor(y));
        const float fx = float(x - left), fy = float(y - top);
        const bool inside = left >= 0 && top >= 0 && left + 1 < width && top + 1 < height;
        const T *origin = pixels + top * row + left * step;
        for (int c = 0; c < CHANNELS; ++c) {
            float a, b, d, e;
            if (inside) {
                a = float(origin[c]), b = float(origin[step + c]);
                d = float(origin[row + c]), e = float(origin[row + step + c]);
            } else {
                a = at(left, top, c), b = at(left + 1, top, c);
                d = at(left, top + 1, c), e = at(left + 1, top + 1, c);
            }
            const float upper = a + fx * (b - a), lower = d + fx * (e - d);
            out[c] = upper + fy * (lower - upper);
        }
    }

    float at(int x, int y, int c) const {
        return x >= 0 && y >= 0 && x < width && y < height ? float(pixels[y * row + x * step + c]) : border;
    }
};

} // namespace

bool is_sound(const Matrix &m) {
    for (double number : m)
        if (!std::isfinite(number)) return false;
    const double scale = std::sqrt(std::fabs(area_of(m)));
    return std::isfinite(scale) && scale >= LEAST_SCALE && scale <= 1 / LEAST_SCALE;
}

void warp_bytes(const Picture &picture, const Matrix &matrix, int width, int height, uint8_t *out) {
    const Source<uint8_t, 3> source{picture.pixels, picture.width, picture.height, 3, picture.row_stride, 0};
    const Matrix m = inverse(matrix);
    for (int y = 0; y < height; ++y)
        for (int x = 0; x < width; ++x, out += 3) {
            float colours[3];
            source.sample(m[0] * x + m[1] * y + m[2], m[3] * x + m[4] * y + m[5], colours);
            for (int c = 0; c < 3; ++c) out[c] = uint8_t(std::nearbyint(colours[c]));
        }
}

void FaceCropper::operator()(const Picture &picture, const Matrix &m, const InputFormat &format, float *out) {
    const double scale = std::sqrt(std::fabs(area_of(m)));
    const int samples = samples_for(scale);
    if (m[0] > 0 && m[0] == m[4] && m[1] == 0 && m[3] == 0) {
        crop_axis_aligned(picture.pixels, picture.height, picture.width, picture.row_stride, m[0], m[2], m[5],
                          samples_for(m[0]), format, out);
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
    const ptrdiff_t plane = ptrdiff_t(side) * side, out_plane = ptrdiff_t(format.size) * format.size;
    upright_.resize(3 * size_t(plane));
    crop_axis_aligned(picture.pixels, picture.height, picture.width, picture.row_stride, finer, shift_x, shift_y,
                      samples_for(finer), larger, upright_.data());
    const Matrix back = inverse({m[0] / finer, m[1] / finer, m[2] - (m[0] * shift_x + m[1] * shift_y) / finer,
                                 m[3] / finer, m[4] / finer, m[5] - (m[3] * shift_x + m[4] * shift_y) / finer});
    for (int y = 0; y < format.size; ++y)
        for (int x = 0; x < format.size; ++x) {
            const double from_x = back[0] * x + back[1] * y + back[2], from_y = back[3] * x + back[4] * y + back[5];
            const ptrdiff_t pixel = ptrdiff_t(y) * format.size + x;
            if (format.channels_last) {
                const Source<float, 3> source{upright_.data(), side, side, 3, 3 * ptrdiff_t(side), format.low};
                source.sample(from_x, from_y, out + 3 * pixel);
            } else {
                for (int c = 0; c < 3; ++c) {
                    const Source<float, 1> source{upright_.data() + c * plane, side, side, 1, side, format.low};
                    source.sample(from_x, from_y, out + c * out_plane + pixel);
                }
            }
        }
}

} // namespace facemesh
