// Motion of a face over the last second, and the place that it leads to: see runtime/tracking/motion.py.
#pragma once

#include <algorithm>
#include <vector>

namespace facemesh {

// Middle and size of a face, px.
struct Place {
    double x, y, size;

    Place scaled(double factor) const { return {factor * x, factor * y, factor * size}; }

    // In sizes; a size that differs by a factor of e counts as 1.
    double distance(const Place &other) const;

    // The place, or the nearest one in a picture: people who leave it come back where they went.
    Place inside(int width, int height) const {
        return {std::min(std::max(x, 0.0), double(width)), std::min(std::max(y, 0.0), double(height)), size};
    }
};

Place place_of(const float *box);

class Motion {
  public:
    bool is_empty() const { return past_.empty(); }
    void clear() { past_.clear(); }

    // A place at a time later than all before.
    void add(double time_s, const Place &place);

    // Follows a change of the frame's size.
    void rescale(double factor);

    // Straight on as before the last moments, and slower and slower from then on.
    Place expected(double time_s) const;

  private:
    struct Moment {
        double time_s;
        Place place;
    };
    std::vector<Moment> past_;
};

} // namespace facemesh
