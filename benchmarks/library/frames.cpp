// Follows the faces of a film that lies in memory, block by block, and tells the time of every frame:
// facemesh_frames MODEL DETECTOR THREADS FILM WIDTH HEIGHT COUNT [FACE_MODEL]
// FILM: COUNT frames, each WIDTH x HEIGHT pixels of three bytes BGR. Every line of the input is a number of frames; the
// answer is a line of JSON, the nanoseconds of each and the landmarks of the first face in the last one. The film goes
// to and fro, 25 frames a second.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <vector>

#include "facemesh.h"

namespace {

constexpr int MOST_FACES = 8;

int fail(const char *what) {
    std::fprintf(stderr, "facemesh_frames: %s\n", what);
    return EXIT_FAILURE;
}

} // namespace

int main(int argc, char **argv) {
    if (argc != 8 && argc != 9) return fail("give MODEL DETECTOR THREADS FILM WIDTH HEIGHT COUNT [FACE_MODEL]");
    const int width = std::atoi(argv[5]), height = std::atoi(argv[6]), count = std::atoi(argv[7]);
    if (width < 1 || height < 1 || count < 2) return fail("a film has two frames or more, and every frame has pixels");
    const std::size_t frame_bytes = std::size_t(3) * std::size_t(width) * std::size_t(height);
    std::vector<unsigned char> film(frame_bytes * std::size_t(count));
    std::ifstream file(argv[4], std::ios::binary);
    if (!file.read(reinterpret_cast<char *>(film.data()), std::streamsize(film.size())))
        return fail("the film is shorter than its size");

    facemesh_model_params model_params = facemesh_model_default_params();
    model_params.threads = std::atoi(argv[3]);
    model_params.topology = argv[8]; // NULL behind the last argument
    facemesh_model *model = facemesh_model_open(argv[1], model_params);
    if (!model) return fail(facemesh_error());
    facemesh_detector *detector = facemesh_detector_open(argv[2], facemesh_detector_default_params());
    if (!detector) return fail(facemesh_error());
    facemesh_tracker *tracker = facemesh_tracker_new(model, detector, facemesh_tracker_default_params());
    if (!tracker) return fail(facemesh_error());
    const std::size_t vertex_count = std::size_t(facemesh_vertex_count(model));
    std::vector<float> vertices(3 * vertex_count * MOST_FACES);
    facemesh_face faces[MOST_FACES];

    long long number = 0;
    for (int frames; std::scanf("%d", &frames) == 1;) {
        std::printf("{\"ns\": [");
        int found = 0;
        for (int frame = 0; frame < frames; ++frame, ++number) {
            const long long place = number % (2 * (count - 1)), shown = place < count ? place : 2 * (count - 1) - place;
            const facemesh_image image{film.data() + frame_bytes * std::size_t(shown), width, height, 3 * width,
                                       FACEMESH_BGR};
            for (std::size_t i = 0; i < MOST_FACES; ++i) faces[i].vertices = vertices.data() + 3 * vertex_count * i;
            const auto start = std::chrono::steady_clock::now();
            found = facemesh_track(tracker, image, double(number) / 25, faces, MOST_FACES);
            const std::chrono::nanoseconds taken = std::chrono::steady_clock::now() - start;
            if (found < 0) return fail(facemesh_error());
            std::printf(frame ? ", %lld" : "%lld", static_cast<long long>(taken.count()));
        }
        std::printf("], \"landmarks\": [");
        for (int i = 0; found > 0 && i < 3 * FACEMESH_LANDMARKS; ++i)
            std::printf(i ? ", %.9g" : "%.9g", double(faces[0].landmarks[i / 3][i % 3]));
        std::printf("]}\n");
        std::fflush(stdout);
    }
    facemesh_tracker_free(tracker);
    facemesh_detector_free(detector);
    facemesh_model_free(model);
    return EXIT_SUCCESS;
}
