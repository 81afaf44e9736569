#include "geometry/pose.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace facemesh {
namespace {

constexpr int COUNT = 68;
constexpr int SWEEPS = 30; // of Jacobi's method; a symmetric 4 x 4 matrix takes about five

// Contour, then brows, nose and eyes, then mouth: jaw and lips move with the expression, the rest with the skull.
double weight_of(int landmark) { return landmark < 17 ? 0.3 : landmark < 48 ? 1.0 : 0.1; }

using Matrix4 = std::array<std::array<double, 4>, 4>;

// One rotation of Jacobi's method, which makes a[p][q] zero; the columns of `vectors` follow.
void rotate(Matrix4 &a, Matrix4 &vectors, int p, int q) {
    if (a[p][q] == 0) return;
    const double theta = (a[q][q] - a[p][p]) / (2 * a[p][q]);
    const double t = (theta >= 0 ? 1 : -1) / (std::fabs(theta) + std::sqrt(theta * theta + 1));
    const double c = 1 / std::sqrt(t * t + 1), s = t * c;
    for (int k = 0; k < 4; ++k) {
        const double x = a[k][p], y = a[k][q];
        a[k][p] = c * x - s * y;
        a[k][q] = s * x + c * y;
    }
    for (int k = 0; k < 4; ++k) {
        const double x = a[p][k], y = a[q][k];
        a[p][k] = c * x - s * y;
        a[q][k] = s * x + c * y;
    }
    for (int k = 0; k < 4; ++k) {
        const double x = vectors[k][p], y = vectors[k][q];
        vectors[k][p] = c * x - s * y;
        vectors[k][q] = s * x + c * y;
    }
}

// The eigenvector of the largest eigenvalue of a symmetric matrix.
std::array<double, 4> dominant_vector(Matrix4 a) {
    Matrix4 vectors{};
    for (int i = 0; i < 4; ++i) vectors[i][i] = 1;
    for (int sweep = 0; sweep < SWEEPS; ++sweep) {
        double off = 0, size = 0;
        for (int p = 0; p < 4; ++p)
            for (int q = 0; q < 4; ++q) (p == q ? size : off) += a[p][q] * a[p][q];
        if (off <= 1e-30 * size) break;
        for (int p = 0; p < 3; ++p)
            for (int q = p + 1; q < 4; ++q) rotate(a, vectors, p, q);
    }
    int best = 0;
    for (int i = 1; i < 4; ++i)
        if (a[i][i] > a[best][best]) best = i;
    return {vectors[0][best], vectors[1][best], vectors[2][best], vectors[3][best]};
}

} // namespace

PoseEstimator::PoseEstimator(const std::vector<double> &canonical) : weighted_(canonical) {
    double total = 0, mean[3] = {};
    for (int i = 0; i < COUNT; ++i) total += weight_of(i);
    for (int i = 0; i < COUNT; ++i)
        for (int axis = 0; axis < 3; ++axis) mean[axis] += weight_of(i) / total * canonical[3 * i + axis];
    for (int i = 0; i < COUNT; ++i)
        for (int axis = 0; axis < 3; ++axis)
            weighted_[3 * i + axis] = (canonical[3 * i + axis] - mean[axis]) * weight_of(i) / total;
}

Pose PoseEstimator::operator()(const float *landmarks) const {
    double m[3][3] = {}; // covariance: canonical axis, predicted axis
    for (int i = 0; i < COUNT; ++i)
        for (int from = 0; from < 3; ++from)
            for (int to = 0; to < 3; ++to) m[from][to] += weighted_[3 * i + from] * landmarks[3 * i + to];
    const double a = m[1][2] - m[2][1], b = m[2][0] - m[0][2], c = m[0][1] - m[1][0];
    const Matrix4 symmetric = {{{m[0][0] + m[1][1] + m[2][2], a, b, c},
                                {a, m[0][0] - m[1][1] - m[2][2], m[0][1] + m[1][0], m[2][0] + m[0][2]},
                                {b, m[0][1] + m[1][0], m[1][1] - m[0][0] - m[2][2], m[1][2] + m[2][1]},
                                {c, m[2][0] + m[0][2], m[1][2] + m[2][1], m[2][2] - m[0][0] - m[1][1]}}};
    const auto [w, x, y, z] = dominant_vector(symmetric);
    // The second row and the third column of the rotation: yaw and pitch are the direction of the nose.
    const double side_y = 2 * (x * y + w * z), up_y = w * w - x * x + y * y - z * z;
    const double nose_x = 2 * (x * z + w * y), nose_y = 2 * (y * z - w * x), nose_z = w * w - x * x - y * y + z * z;
    return {std::atan2(nose_x, nose_z) / DEGREE, std::asin(std::clamp(-nose_y, -1.0, 1.0)) / DEGREE,
            std::atan2(side_y, up_y) / DEGREE};
}

double picture_roll_deg(const Pose &pose) {
    const double yaw = pose.yaw_deg * DEGREE, pitch = pose.pitch_deg * DEGREE, roll = pose.roll_deg * DEGREE;
    const double left = std::cos(yaw) * std::sin(roll) - std::sin(yaw) * std::sin(pitch) * std::cos(roll);
    return std::atan2(left, std::cos(pitch) * std::cos(roll)) / DEGREE;
}

double roll_in_crop_deg(const Pose &pose, const Matrix &crop) {
    const double left = picture_roll_deg(pose) - crop_roll_deg(crop);
    return left - 360 * std::floor((left + 180) / 360);
}

} // namespace facemesh
