// Time between frames, whatever their time stamps say: see runtime/tracking/clock.py.
#pragma once

#include <cmath>

namespace facemesh {

class Clock {
  public:
    double time_s = 0;
    double step_s = USUAL_STEP_S; // since the frame before, always above 0
    bool has_jumped = false;      // the last step says nothing about speeds

    // Goes on to a frame. A stamp that repeats, goes back or is not finite counts as the usual step.
    void tick(double stamp_s) {
        const bool is_stamp = std::isfinite(stamp_s);
        const double step = is_stamp && std::isfinite(stamp_) ? stamp_s - stamp_ : 0;
        has_jumped = step < 0 || step > LONGEST_STEP_S;
        if (step > 0 && step <= LONGEST_STEP_S) usual_ = step;
        step_s = step > 0 ? step : usual_;
        time_s += step_s;
        if (is_stamp) stamp_ = stamp_s;
    }

  private:
    static constexpr double USUAL_STEP_S = 1.0 / 30, LONGEST_STEP_S = 1;

    double stamp_ = NAN, usual_ = USUAL_STEP_S;
};

} // namespace facemesh
