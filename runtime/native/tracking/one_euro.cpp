#include "one_euro.h"

#include <algorithm>
#include <cmath>

#include "cpu/simd.h"

namespace facemesh {
namespace {

constexpr float TURN = 6.2831853f;
constexpr int BLOCK = 256;      // points
constexpr float STILL = 1e-12f; // px/s: speeds of a picture that stands fade towards numbers that take 8 times as long

// Weight of a new value in a low pass of the first order.
FACEMESH_INLINE float weight(float cutoff, float dt) {
    const float r = TURN * cutoff * dt;
    return r / (r + 1);
}

} // namespace

// In blocks, so that each loop runs over numbers that lie side by side and its results stay in the nearest cache.
FACEMESH_MULTIVERSION
void one_euro(float *points, float *filtered, float *speeds, size_t count, const OneEuro &settings) {
    const float dt = settings.dt, rate = 1 / dt, cutoff = settings.cutoff, gain = settings.gain;
    const float keep = weight(settings.speed_cutoff, dt);
    float squares[3 * BLOCK], takes[BLOCK], spread[3 * BLOCK];
    for (size_t start = 0; start < count; start += BLOCK) {
        const int block = int(std::min<size_t>(BLOCK, count - start));
        float *point = points + 3 * start, *last = filtered + 3 * start, *speed = speeds + 3 * start;
#pragma omp simd
        for (int i = 0; i < 3 * block; ++i) {
            const float now = speed[i] + keep * (rate * (point[i] - last[i]) - speed[i]);
            speed[i] = std::fabs(now) < STILL ? 0.0f : now;
            squares[i] = now * now;
        }
#pragma omp simd
        for (int i = 0; i < block; ++i) {
            const float length = std::sqrt(squares[3 * i] + squares[3 * i + 1] + squares[3 * i + 2]);
            takes[i] = weight(cutoff + gain * length, dt);
        }
#pragma omp simd
        for (int i = 0; i < block; ++i) spread[3 * i] = spread[3 * i + 1] = spread[3 * i + 2] = takes[i];
#pragma omp simd
        for (int i = 0; i < 3 * block; ++i) {
            const float now = last[i] + spread[i] * (point[i] - last[i]);
            last[i] = now;
            point[i] = now;
        }
    }
}

} // namespace facemesh
