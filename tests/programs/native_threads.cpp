// What the compiled module lets threads share, used by eight of them at once: `make sanitize-threads` builds this with
// ThreadSanitizer. Python's own locks are not known to it, so Python takes no part. Exit code 1: a thread got another
// result than one alone does; ThreadSanitizer itself ends with 66.
#include <cstdio>
#include <cstring>
#include <functional>
#include <random>
#include <thread>
#include <vector>

#include "cpu/coefficients.h"
#include "cpu/crop.h"
#include "cpu/decode.h"
#include "geometry/pose.h"
#include "rendering/rasterise.h"
#include "rendering/visibility.h"

namespace {

constexpr int THREADS = 8, ROUNDS = 5, SIZE = 64, WIDTH = 200, HEIGHT = 150, GRID = 32, LANDMARKS = 68;
constexpr size_t VERTICES = GRID * GRID;
constexpr double MATRIX[6] = {0.5, 0, -3, 0, 0.5, -5};

std::mt19937 generator(1);

std::vector<float> random_floats(size_t count, float low, float high) {
    std::uniform_real_distribution<float> chance(low, high);
    std::vector<float> values(count);
    for (float &value : values) value = chance(generator);
    return values;
}

std::vector<int32_t> consecutive(int32_t count) {
    std::vector<int32_t> numbers(count);
    for (int32_t i = 0; i < count; i++) numbers[i] = i;
    return numbers;
}

std::vector<int32_t> grid_triangles() {
    std::vector<int32_t> triangles;
    for (int32_t row = 0; row + 1 < GRID; row++)
        for (int32_t column = 0; column + 1 < GRID; column++) {
            const int32_t first = row * GRID + column;
            triangles.insert(triangles.end(), {first, first + 1, first + GRID});
            triangles.insert(triangles.end(), {first + 1, first + GRID + 1, first + GRID});
        }
    return triangles;
}

facemesh::CoefficientFormat coefficient_format(size_t count) {
    facemesh::CoefficientFormat format{};
    format.pose_count = 12;
    format.mean.assign(12 + count, 0.1);
    format.std.assign(12 + count, 1.0);
    format.sphere[3] = 1;
    return format;
}

// Everything that the threads share; each call has its own results.
struct Shared {
    std::vector<uint8_t> image = std::vector<uint8_t>(size_t(HEIGHT) * WIDTH * 3);
    std::vector<int32_t> pixels = consecutive(VERTICES), triangles = grid_triangles();
    std::vector<float> map = random_floats(3 * VERTICES, 0, 1), vertices = random_floats(3 * VERTICES, 0, 100),
                       coefficients = random_floats(12 + 40, -1, 1), mean = random_floats(3 * VERTICES, -1, 1),
                       basis = random_floats(3 * VERTICES * 40, -1, 1);
    facemesh::InputFormat format{SIZE, false, true, 0.0f, 1.0f / 255};
    facemesh::Decoder same_size{pixels.data(), VERTICES, consecutive(LANDMARKS), GRID, GRID, false, 64.0};
    facemesh::Decoder sampled{pixels.data(), VERTICES, consecutive(LANDMARKS), GRID, GRID / 2, false, 64.0};
    facemesh::CoefficientDecoder coefficient{coefficient_format(40), mean.data(), basis.data(), VERTICES, 16, 64};
    facemesh::PoseEstimator pose{std::vector<double>(vertices.begin(), vertices.begin() + 3 * LANDMARKS)};

    Shared() {
        for (uint8_t &value : image) value = uint8_t(generator());
    }
};

std::vector<float> all_results(const Shared &shared) {
    std::vector<float> results;
    const auto keep = [&results](size_t count, const std::function<void(float *)> &fill) {
        std::vector<float> values(count);
        fill(values.data());
        results.insert(results.end(), values.begin(), values.end());
    };
    const size_t stride = size_t(WIDTH) * 3;
    for (const int samples : {1, 2})
        keep(size_t(3) * SIZE * SIZE, [&](float *out) {
            facemesh::crop_axis_aligned(shared.image.data(), HEIGHT, WIDTH, stride, 0.5, -3, -5, samples, shared.format,
                                        out);
        });
    keep(size_t(3) * SIZE * SIZE, [&](float *out) { facemesh::finish_crop(shared.image.data(), shared.format, out); });
    for (const facemesh::Decoder *decoder : {&shared.same_size, &shared.sampled})
        keep(3 * (VERTICES + LANDMARKS), [&](float *out) {
            decoder->decode(shared.map.data(), MATRIX, out, out + 3 * VERTICES);
        });
    keep(3 * VERTICES, [&](float *out) {
        float *const faces[] = {out};
        shared.coefficient.decode(shared.coefficients.data(), MATRIX, 1, faces);
    });
    keep(size_t(WIDTH) * HEIGHT * 4, [&](float *out) {
        float *depth = out + size_t(WIDTH) * HEIGHT * 3;
        std::fill(depth, depth + size_t(WIDTH) * HEIGHT, -1e30f);
        facemesh::rasterise(shared.vertices.data(), shared.triangles.data(), shared.triangles.size() / 3,
                            shared.map.data(), 3, WIDTH, HEIGHT, out, depth);
    });
    keep(VERTICES, [&](float *out) {
        bool visible[VERTICES];
        facemesh::find_visible(shared.vertices.data(), VERTICES, shared.triangles.data(), shared.triangles.size() / 3,
                               1.0f, visible);
        for (size_t i = 0; i < VERTICES; i++) out[i] = visible[i];
    });
    keep(3, [&](float *out) {
        const facemesh::Pose pose = shared.pose(shared.vertices.data() + 300);
        out[0] = float(pose.yaw_deg), out[1] = float(pose.pitch_deg), out[2] = float(pose.roll_deg);
    });
    return results;
}

} // namespace

int main() {
    const Shared shared;
    const std::vector<float> alone = all_results(shared);
    std::vector<int> wrong(THREADS);
    std::vector<std::thread> threads;
    for (int thread = 0; thread < THREADS; thread++)
        threads.emplace_back([&shared, &alone, &wrong, thread] {
            for (int round = 0; round < ROUNDS; round++) {
                const std::vector<float> results = all_results(shared);
                wrong[thread] += std::memcmp(results.data(), alone.data(), 4 * alone.size()) != 0;
            }
        });
    for (std::thread &thread : threads) thread.join();
    int count = 0;
    for (int number : wrong) count += number;
    std::printf("%d threads, %zu numbers each time, %d of %d rounds differ\n", THREADS, alone.size(), count,
                THREADS * ROUNDS);
    return count != 0;
}
