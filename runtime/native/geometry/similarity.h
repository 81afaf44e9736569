// Crop matrices: (2, 3) similarities, frame px -> crop px. See runtime/geometry/crop.py.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>

namespace facemesh {

using Matrix = std::array<double, 6>; // two rows

constexpr double DEGREE = 3.14159265358979323846 / 180;

struct Box {
    double x1, y1, x2, y2; // px
};

constexpr double MOST_COORDINATE = 1e6; // px, far beyond any picture

// As runtime.geometry.boxes.check_box; false for numbers that are not finite.
inline bool is_box(const Box &box) {
    return -MOST_COORDINATE <= box.x1 && box.x1 < box.x2 && box.x2 <= MOST_COORDINATE && -MOST_COORDINATE <= box.y1 &&
           box.y1 < box.y2 && box.y2 <= MOST_COORDINATE;
}

// From the box of a face's landmarks to its crop: a square around the centre of the box becomes side x side px.
struct CropRule {
    bool by_longer_side; // 3DDFA's landmark crop, otherwise PRNet's
    double crop_scale;
    int side;

    // Side of the square, px of the frame.
    double square(const Box &box) const {
        if (by_longer_side) return crop_scale * std::max(box.x2 - box.x1, box.y2 - box.y1);
        return crop_scale * (box.x2 - box.x1 + box.y2 - box.y1) / 2;
    }

    // The square's edges go to 0 and side - 1 by PRNet's rule, to the outer edges of the crop's pixels by 3DDFA's. NaN
    // for what is no box.
    Matrix operator()(const Box &box) const {
        if (!is_box(box)) return {NAN, NAN, NAN, NAN, NAN, NAN};
        const double u = (box.x1 + box.x2) / 2, v = (box.y1 + box.y2) / 2, edge = square(box);
        if (by_longer_side) {
            const double scale = side / edge, middle = (side - 1) / 2.0;
            return {scale, 0, middle - scale * u, 0, scale, middle - scale * v};
        }
        const double scale = (side - 1) / edge;
        return {scale, 0, scale * (edge / 2 - u), 0, scale, scale * (edge / 2 - v)};
    }
};

// The crop after turning the frame about (x, y) so that what is turned clockwise by roll_deg becomes upright.
inline Matrix turned_crop(const Matrix &m, double x, double y, double roll_deg) {
    if (roll_deg == 0) return m;
    const double c = std::cos(roll_deg * DEGREE), s = std::sin(roll_deg * DEGREE);
    const double a = m[0] * c - m[1] * s, b = m[0] * s + m[1] * c, d = m[3] * c - m[4] * s, e = m[3] * s + m[4] * c;
    return {a, b, m[2] + ((m[0] - a) * x + (m[1] - b) * y), d, e, m[5] + ((m[3] - d) * x + (m[4] - e) * y)};
}

// The roll that a crop takes off a face, degrees in -180..180.
inline double crop_roll_deg(const Matrix &m) { return std::atan2(m[1], m[0]) / DEGREE; }

inline double area_of(const Matrix &m) { return m[0] * m[4] - m[1] * m[3]; }

// True if a crop of `side` px differs little from the wanted one: in place by `most_offset` of the side, in scale by
// `most_growth`.
inline bool crop_fits(const Matrix &m, const Matrix &wanted, int side, double most_offset, double most_growth) {
    const double area = area_of(wanted), middle = (side - 1) / 2.0;
    const double dx = middle - wanted[2], dy = middle - wanted[5];
    const double x = (wanted[4] * dx - wanted[1] * dy) / area, y = (wanted[0] * dy - wanted[3] * dx) / area;
    const double offset = std::hypot(m[0] * x + m[1] * y + m[2] - middle, m[3] * x + m[4] * y + m[5] - middle);
    const double growth = std::sqrt(area_of(m) / area);
    return offset <= most_offset * side && 1 / most_growth <= growth && growth <= most_growth;
}

inline Matrix inverse(const Matrix &m) {
    const double area = area_of(m), a = m[4] / area, b = -m[1] / area, c = -m[3] / area, d = m[0] / area;
    return {a, b, -(a * m[2] + b * m[5]), c, d, -(c * m[2] + d * m[5])};
}

} // namespace facemesh
