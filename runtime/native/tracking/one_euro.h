// One-Euro filter (Casiez, Roussel, Vogel, CHI 2012) of points.
#pragma once

#include <cstddef>

namespace facemesh {

struct OneEuro {
    float dt;           // s since the last points
    float cutoff;       // Hz at rest
    float gain;         // Hz for a speed of 1 px/s
    float speed_cutoff; // Hz, of the low pass of the speed
};

// Filters `count` points (x, y, z) in place. `filtered` holds the last result, `speeds` the speeds in px/s; both are
// brought up to date. A point's cutoff follows the length of its speed.
void one_euro(float *points, float *filtered, float *speeds, size_t count, const OneEuro &settings);

} // namespace facemesh
