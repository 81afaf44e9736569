/* Counts what libfacemesh takes from the heap once it has warmed up; ONNX Runtime's own run does not count:
 * check_allocations MODEL YUNET LANDMARKS_FROM PICTURE WIDTH HEIGHT
 * LANDMARKS_FROM: a model, or "" for none; PICTURE: WIDTH x HEIGHT pixels of three bytes BGR with one face. */
#include <dlfcn.h>
#include <execinfo.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <new>
#include <vector>

#include <facemesh.h>

extern "C" void *__libc_malloc(size_t);
extern "C" void *__libc_memalign(size_t, size_t);

namespace {

constexpr int WARM_UP = 120, FRAMES = 200; // the detector looks again in both
bool is_counting = false, is_tracing = false;
long taken = 0;

// The library's own calls: those of functions that it has in it.
void count(const void *caller) {
    if (!is_counting) return;
    is_counting = false;
    Dl_info info;
    if (dladdr(caller, &info) && info.dli_fname && std::strstr(info.dli_fname, "libfacemesh")) {
        ++taken;
        if (is_tracing) {
            void *frames[12];
            backtrace_symbols_fd(frames, backtrace(frames, 12), 2);
        }
    }
    is_counting = true;
}

int fail(const char *what) {
    std::fprintf(stderr, "check_allocations: %s\n", what);
    return 2;
}

template <typename Call> long taken_by(Call call) {
    for (int frame = 0; frame < WARM_UP; ++frame)
        if (!call(frame)) std::exit(fail(facemesh_error()));
    taken = 0;
    is_counting = true;
    bool is_sound = true;
    for (int frame = WARM_UP; frame < WARM_UP + FRAMES; ++frame) is_sound &= call(frame);
    is_counting = false;
    if (!is_sound) std::exit(fail(facemesh_error()));
    return taken;
}

} // namespace

extern "C" void *malloc(size_t size) {
    count(__builtin_return_address(0));
    return __libc_malloc(size);
}

extern "C" void *aligned_alloc(size_t alignment, size_t size) {
    count(__builtin_return_address(0));
    return __libc_memalign(alignment, size);
}

void *operator new(size_t size) {
    count(__builtin_return_address(0));
    if (void *memory = __libc_malloc(size ? size : 1)) return memory;
    throw std::bad_alloc();
}

void *operator new[](size_t size) {
    count(__builtin_return_address(0));
    if (void *memory = __libc_malloc(size ? size : 1)) return memory;
    throw std::bad_alloc();
}

void operator delete(void *memory) noexcept { std::free(memory); }
void operator delete[](void *memory) noexcept { std::free(memory); }
void operator delete(void *memory, size_t) noexcept { std::free(memory); }
void operator delete[](void *memory, size_t) noexcept { std::free(memory); }

int main(int argc, char **argv) {
    if (argc != 7) return fail("give MODEL YUNET LANDMARKS_FROM PICTURE WIDTH HEIGHT");
    is_tracing = std::getenv("TRACE") != nullptr;
    const int width = std::atoi(argv[5]), height = std::atoi(argv[6]);
    std::vector<unsigned char> pixels(3 * size_t(width) * size_t(height));
    std::ifstream file(argv[4], std::ios::binary);
    if (!file.read(reinterpret_cast<char *>(pixels.data()), std::streamsize(pixels.size()))) return fail("no picture");
    facemesh_model_params params = facemesh_model_default_params();
    facemesh_model *first = *argv[3] ? facemesh_model_open(argv[3], params) : nullptr;
    params.landmarks_from = first;
    facemesh_model *model = facemesh_model_open(argv[1], params);
    facemesh_detector *detector = facemesh_detector_open(argv[2], facemesh_detector_default_params());
    if (!model || !detector || (*argv[3] && !first)) return fail(facemesh_error());
    facemesh_tracker *tracker = facemesh_tracker_new(model, detector, facemesh_tracker_default_params());
    const facemesh_image image{pixels.data(), width, height, 3 * width, FACEMESH_BGR};
    std::vector<float> vertices(3 * size_t(facemesh_vertex_count(model)));
    facemesh_face face{};
    face.vertices = vertices.data();
    if (facemesh_find(model, detector, image, &face, 1) != 1) return fail("not one face");
    const std::vector<float> box(face.box, face.box + 4);

    const long boxes = taken_by([&](int) {
        face.vertices = vertices.data();
        return facemesh_from_boxes(model, image, box.data(), nullptr, 1, &face) == 1;
    });
    const long found = taken_by([&](int) {
        face.vertices = vertices.data();
        return facemesh_find(model, detector, image, &face, 1) == 1;
    });
    const long tracked = taken_by([&](int frame) {
        face.vertices = vertices.data();
        facemesh_track(tracker, image, frame / 25.0, &face, 1); // a toy's face may shrink to a point, which is refused
        return true;
    });
    std::printf("%ld %ld %ld\n", boxes, found, tracked);
    facemesh_tracker_free(tracker);
    facemesh_detector_free(detector);
    facemesh_model_free(model);
    facemesh_model_free(first);
    return 0;
}
