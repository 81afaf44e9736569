#include "people/track.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "tracking/one_euro.h"
#include "library/handles.h"

namespace facemesh {
namespace {

constexpr double RELIEF_S = 1;
constexpr double JUMP = 0.5; // sizes of the face from frame to frame; what moves further is somewhere else

} // namespace

void Doubt::relieved(double time_s) {
    since_s = -1;
    if (gap_ && time_s - last_s_ > RELIEF_S) {
        gap_ = 0;
        level_ = 1;
    }
}

bool Doubt::wants_check(double confidence, double time_s) {
    last_s_ = time_s;
    return ++waited_ > gap_ || confidence < level_ / 2;
}

void Doubt::confirmed(double confidence) {
    since_s = -1;
    misses = 0;
    checked(confidence);
}

void Doubt::checked(double confidence) {
    gap_ = std::max(1, 2 * gap_);
    waited_ = 0;
    level_ = confidence;
}

void Track::see(Sight &next, double time_s, double step_s, bool has_jumped) {
    const Place there = place_of(next.look.box);
    if (has_jumped) motion_.clear();
    if (is_new_ || has_jumped || there.distance(place) > JUMP) {
        crop_.reset();
        vertices_.filtered.clear();
        landmarks_.filtered.clear();
    }
    is_new_ = false;
    std::swap(sight, next);
    place = there;
    const Look &look = sight.look;
    const double roll_deg = picture_roll_deg(look.pose);
    if (confidence() >= SURE || motion_.is_empty()) {
        motion_.add(time_s, place);
        sure_roll_deg_ = roll_deg;
    }
    crop_.follow(look.landmarks, roll_deg, step_s, place.size);
}

void Track::find() {
    lost_s = -1;
    doubt = Doubt();
    is_new_ = true;
}

Matrix Track::crop_matrix(double time_s, int width, int height) {
    return lost_s < 0 ? crop_.matrix() : crop_.matrix_at(expected(time_s).inside(width, height), sure_roll_deg_);
}

void Track::rescale(double factor) {
    place = place.scaled(factor);
    for (float &number : sight.look.landmarks) number *= float(factor);
    crop_.rescale(factor);
    is_new_ = true;
    motion_.rescale(factor);
}

void Track::smooth(Points &points, float *numbers, size_t count, double step_s) {
    if (points.filtered.size() != count) {
        points.filtered.assign(numbers, numbers + count);
        points.speeds.assign(count, 0.0f);
        return;
    }
    const OneEuro settings{float(step_s), params_.cutoff_hz, float(params_.beta / place.size), params_.speed_cutoff_hz};
    one_euro(numbers, points.filtered.data(), points.speeds.data(), count / 3, settings);
}

void Track::write(const PoseEstimator &pose, double step_s, facemesh_face &face) {
    write_face(sight.look, face);
    face.score = score;
    face.track = number;
    if (params_.smooth) {
        smooth(vertices_, sight.vertices.data(), sight.vertices.size(), step_s);
        smooth(landmarks_, &face.landmarks[0][0], 3 * FACEMESH_LANDMARKS, step_s); // the look keeps the measured ones
        find_extent(&face.landmarks[0][0], face.box);
        write_pose(pose(&face.landmarks[0][0]), face);
    }
    if (face.vertices) std::memcpy(face.vertices, sight.vertices.data(), sight.vertices.size() * sizeof(float));
}

} // namespace facemesh
