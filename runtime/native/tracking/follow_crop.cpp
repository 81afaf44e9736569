#include "tracking/follow_crop.h"

#include <cmath>

#include "tracking/upright_box.h"

namespace facemesh {
namespace {

// The two limits keep a face in between from changing all the time.
constexpr double TURN_BEYOND_DEG = 15, STRAIGHT_BELOW_DEG = 11;
constexpr double TURN = 360 * DEGREE;

// Weight of a new value in a low pass of the first order.
double weight(double cutoff_hz, double dt) {
    const double r = TURN * cutoff_hz * dt;
    return r / (r + 1);
}

} // namespace

void FollowCrop::follow(const float *landmarks, double roll_deg, double dt, double size) {
    double roll = roll_deg * DEGREE;
    const auto [x1, y1, x2, y2] = upright_box(landmarks, FACEMESH_LANDMARKS, roll);
    const double c = std::cos(roll), s = std::sin(roll), x = (x1 + x2) / 2, y = (y1 + y2) / 2;
    if (!params_.smooth || !has_past_)
        size_ = size;
    else { // the arc is that of the nearest turn, so that it does not grow with the face
        const double before = filtered_[4] / size_;
        roll = before + std::remainder(roll - before, TURN);
    }
    const Numbers numbers{c * x - s * y, s * x + c * y, x2 - x1, y2 - y1, roll * size_};
    if (params_.smooth)
        filter(numbers, dt, size);
    else
        numbers_ = numbers;
}

// One-Euro, each number with a speed of its own; the place runs ahead by its speed.
void FollowCrop::filter(const Numbers &numbers, double dt, double size) {
    if (!has_past_) {
        filtered_ = numbers;
        speeds_ = {};
        has_past_ = true;
    } else {
        const double keep = weight(params_.speed_cutoff_hz, dt);
        for (size_t i = 0; i < numbers.size(); ++i) {
            const double change = numbers[i] - filtered_[i];
            speeds_[i] += keep * (change / dt - speeds_[i]);
            filtered_[i] += weight(params_.cutoff_hz + params_.beta * std::fabs(speeds_[i]) / size, dt) * change;
        }
    }
    numbers_ = filtered_;
    for (size_t axis = 0; axis < 2; ++axis) numbers_[axis] += dt * speeds_[axis];
}

void FollowCrop::rescale(double factor) {
    for (double &number : numbers_) number *= factor;
    size_ *= factor;
    reset();
}

Matrix FollowCrop::matrix() {
    const double roll_deg = std::remainder(numbers_[4] / size_, TURN) / DEGREE;
    is_turned_ = std::fabs(roll_deg) > (is_turned_ ? STRAIGHT_BELOW_DEG : TURN_BEYOND_DEG);
    return matrix_of(numbers_[0], numbers_[1], numbers_[2], numbers_[3], is_turned_ ? roll_deg : 0);
}

Matrix FollowCrop::matrix_at(const Place &place, double roll_deg) const {
    return matrix_of(place.x, place.y, place.size, place.size, roll_deg);
}

Matrix FollowCrop::matrix_of(double x, double y, double width, double height, double roll_deg) const {
    const Box box{x - width / 2, y - height / 2, x + width / 2, y + height / 2};
    return turned_crop(rule_(box), x, y, roll_deg);
}

} // namespace facemesh
