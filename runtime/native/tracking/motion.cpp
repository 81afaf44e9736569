#include "tracking/motion.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

namespace facemesh {
namespace {

constexpr double REMEMBERED_S = 1;
constexpr double IGNORED_S = 0.2; // the landmarks of a face that is being hidden slide over to the one in front
constexpr double SPEED_LASTS_S = 0.7;
constexpr double LEAST_SPAN_S = 0.1;

} // namespace

double Place::distance(const Place &other) const {
    return std::hypot(x - other.x, y - other.y) / std::sqrt(size * other.size) + std::fabs(std::log(size / other.size));
}

Place place_of(const float *box) {
    const double x1 = box[0], y1 = box[1], x2 = box[2], y2 = box[3];
    return {(x1 + x2) / 2, (y1 + y2) / 2, std::max(1e-3, (x2 - x1 + y2 - y1) / 2)};
}

void Motion::add(double time_s, const Place &place) {
    past_.push_back({time_s, place});
    const auto is_new = [&](const Moment &moment) { return moment.time_s >= time_s - REMEMBERED_S; };
    past_.erase(past_.begin(), std::find_if(past_.begin(), past_.end(), is_new));
}

void Motion::rescale(double factor) {
    for (Moment &moment : past_) moment.place = moment.place.scaled(factor);
}

Place Motion::expected(double time_s) const {
    const double last = past_.back().time_s;
    size_t n = 0;
    while (n < past_.size() && past_[n].time_s <= last - IGNORED_S) ++n;
    if (n == 0 || past_[n - 1].time_s - past_[0].time_s < LEAST_SPAN_S)
        return past_[past_.size() < 2 ? 0 : past_.size() - 2].place; // the place before this one: a jump still shows
    double middle = 0, spread = 0;
    for (size_t i = 0; i < n; ++i) middle += past_[i].time_s / double(n);
    for (size_t i = 0; i < n; ++i) spread += (past_[i].time_s - middle) * (past_[i].time_s - middle);
    const double ahead = last - middle + SPEED_LASTS_S * (1 - std::exp((last - time_s) / SPEED_LASTS_S));
    Place place{0, 0, 0};
    for (size_t i = 0; i < n; ++i) {
        const double share = 1 / double(n) + (past_[i].time_s - middle) / spread * ahead;
        place.x += past_[i].place.x * share;
        place.y += past_[i].place.y * share;
        place.size += past_[i].place.size / double(n);
    }
    return place;
}

} // namespace facemesh
