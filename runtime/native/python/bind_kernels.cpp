// Python bindings of _native.host_kernels and _native.cuda. Memory is given as addresses, whose sizes cannot be
// checked; the numbers beside them are.
#include <nanobind/nanobind.h>

#include <cmath>
#include <cstdint>
#include <stdexcept>
#include <string>

#include "bind_kernels.h"
#include "gpu/kernels.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

constexpr int MAX_SIDE = 8192;   // three planes of it are still counted in 32 bits
constexpr int MAX_FACES = 65535; // CUDA's limit on a grid's second side

void require_between(const char *name, int value, int most) {
    if (value < 1 || value > most)
        throw std::invalid_argument(std::string(name) + " must be 1.." + std::to_string(most) + ", is " +
                                    std::to_string(value));
}

void require_finite(const char *name, double value) {
    if (!std::isfinite(value)) throw std::invalid_argument(std::string(name) + " must be finite");
}

// An address that is off its type's boundary is an error on the device from which the process does not recover.
template <typename T> T *pointer(const char *name, uintptr_t address, size_t alignment) {
    if (address == 0) throw std::invalid_argument(std::string(name) + " is a null pointer");
    if (address % alignment != 0)
        throw std::invalid_argument(std::string(name) + " must lie on a " + std::to_string(alignment) +
                                    "-byte boundary");
    return reinterpret_cast<T *>(address);
}

template <void (*run)(const facemesh::CropTask &, uintptr_t)>
void crop(uintptr_t frame, int height, int width, int64_t row_stride, uintptr_t matrices, int n, uintptr_t out,
          int size, bool channels_last, bool swap_colours, double low, double high, bool half, uintptr_t stream,
          uintptr_t landmarks) {
    require_between("height", height, 1 << 24);
    require_between("width", width, 1 << 24);
    require_between("n", n, MAX_FACES);
    require_between("size", size, MAX_SIDE);
    require_finite("low", low);
    require_finite("high", high);
    if (row_stride < 3 * int64_t(width))
        throw std::invalid_argument("row_stride must be at least 3 * width bytes, is " + std::to_string(row_stride));
    if (row_stride > INT32_MAX / height) throw std::invalid_argument("the frame must be smaller than 2 GiB");
    if (landmarks != 0 && channels_last)
        throw std::invalid_argument("landmarks must be 0 for channels_last: their channel is a plane of its own");
    facemesh::CropTask task;
    task.frame = pointer<const uint8_t>("frame", frame, 4);
    task.height = height;
    task.width = width;
    task.row_stride = int32_t(row_stride);
    task.matrices = pointer<const double>("matrices", matrices, 8);
    task.faces = n;
    task.out = pointer<void>("out", out, half ? 2 : 4);
    task.landmarks = landmarks == 0 ? nullptr : pointer<const float>("landmarks", landmarks, 4);
    task.size = size;
    task.channels_last = channels_last;
    task.swap_colours = swap_colours;
    task.low = float(low);
    task.gain = float((high - low) / 255);
    task.half = half;
    nb::gil_scoped_release release;
    run(task, stream);
}

template <void (*run)(const facemesh::DecodeTask &, uintptr_t)>
void decode(uintptr_t map, bool half, int map_size, bool channels_last, double scale, uintptr_t matrices, int n,
            uintptr_t indices, int count, int resolution, uintptr_t out, uintptr_t stream) {
    require_between("map_size", map_size, MAX_SIDE);
    require_between("resolution", resolution, MAX_SIDE);
    require_between("n", n, MAX_FACES);
    require_between("count", count, MAX_SIDE * MAX_SIDE);
    require_finite("scale", scale);
    facemesh::DecodeTask task;
    task.map = pointer<const void>("map", map, half ? 2 : 4);
    task.half = half;
    task.map_size = map_size;
    task.channels_last = channels_last;
    task.scale = float(scale);
    task.matrices = pointer<const double>("matrices", matrices, 8);
    task.faces = n;
    task.indices = pointer<const int32_t>("indices", indices, 4);
    task.count = count;
    task.resolution = resolution;
    task.out = pointer<float>("out", out, 4);
    nb::gil_scoped_release release;
    run(task, stream);
}

template <void (*run)(const facemesh::CoefficientTask &, uintptr_t)>
void decode_coefficients(uintptr_t output, bool half, int pose_count, int coefficient_count, uintptr_t constants,
                         uintptr_t mean, uintptr_t basis, bool basis_half, uintptr_t matrices, int n, int count,
                         uintptr_t out, uintptr_t stream) {
    if (pose_count != 12 && pose_count != 0)
        throw std::invalid_argument("pose_count must be 12 or 0, is " + std::to_string(pose_count));
    require_between("coefficient_count", coefficient_count, facemesh::MAX_COEFFICIENTS);
    require_between("n", n, MAX_FACES);
    require_between("count", count, MAX_SIDE * MAX_SIDE);
    facemesh::CoefficientTask task;
    task.output = pointer<const void>("output", output, half ? 2 : 4);
    task.half = half;
    task.pose_count = pose_count;
    task.coefficient_count = coefficient_count;
    task.constants = pointer<const float>("constants", constants, 4);
    task.mean = pointer<const float>("mean", mean, 4);
    task.basis = pointer<const void>("basis", basis, basis_half ? 2 : 4);
    task.basis_half = basis_half;
    task.matrices = pointer<const double>("matrices", matrices, 8);
    task.faces = n;
    task.count = count;
    task.out = pointer<float>("out", out, 4);
    nb::gil_scoped_release release;
    run(task, stream);
}

template <void (*run_crop)(const facemesh::CropTask &, uintptr_t),
          void (*run_decode)(const facemesh::DecodeTask &, uintptr_t),
          void (*run_coefficients)(const facemesh::CoefficientTask &, uintptr_t)>
void define_kernels(nb::module_ &module) {
    module.def("crop", &crop<run_crop>, "frame"_a, "height"_a, "width"_a, "row_stride"_a, "matrices"_a, "n"_a, "out"_a,
               "size"_a, "channels_last"_a, "swap_colours"_a, "low"_a, "high"_a, "half"_a, "stream"_a,
               "landmarks"_a = 0,
               "Crop, antialias and normalise n faces of a frame, as runtime.geometry.crop.warp_crop does.\n\n"
               "frame: (height, width, 3) uint8 BGR, row_stride bytes from row to row, on a 4-byte boundary.\n"
               "matrices: (n, 2, 3) float64 similarities, frame px -> crop px; a singular one gives black.\n"
               "out: (n, 3, size, size), or (n, size, size, 3) for channels_last; float32, or float16 for half;\n"
               "low and high are the values of colours 0 and 255. landmarks: (n, 68, 3) float32 frame px for the\n"
               "fourth plane of an out (n, 4, size, size), or 0; see runtime.geometry.crop.draw_landmarks.\n"
               "Raises ValueError for numbers out of range.");
    module.def("decode", &decode<run_decode>, "map"_a, "half"_a, "map_size"_a, "channels_last"_a, "scale"_a,
               "matrices"_a, "n"_a, "indices"_a, "count"_a, "resolution"_a, "out"_a, "stream"_a,
               "Decode count points of each of n position maps, as runtime.families.position_map.Decoder does.\n\n"
               "map: (n, 3, map_size, map_size), or (n, map_size, map_size, 3) for channels_last; float32, or float16\n"
               "for half; its values times scale are crop px. matrices: (n, 2, 3) float64, frame px -> crop px.\n"
               "indices: (count,) int32 pixels of the flattened resolution x resolution grid; not checked.\n"
               "out: (n, count, 3) float32, frame px. Raises ValueError for numbers out of range.");
    module.def("decode_coefficients", &decode_coefficients<run_coefficients>, "output"_a, "half"_a, "pose_count"_a,
               "coefficient_count"_a, "constants"_a, "mean"_a, "basis"_a, "basis_half"_a, "matrices"_a, "n"_a,
               "count"_a, "out"_a, "stream"_a,
               "Decode count points of n faces, as runtime.families.coefficients.Decoder does.\n\n"
               "output: (n, pose_count + coefficient_count) float32, or float16 for half. constants: float32, mean\n"
               "and std of these numbers, a (3, 4) pose for pose_count 0, two numbers of the origin, four of the\n"
               "mean face's sphere. mean: (3, count) float32. basis: (coefficient_count, 3, count) float32, or\n"
               "float16 for basis_half. matrices: (n, 2, 3) float64, frame px -> crop px. out: (n, count, 3) float32,\n"
               "frame px.\n"
               "Raises ValueError for numbers out of range.");
}

#ifdef FACEMESH_CUDA
void define_cuda(nb::module_ &module) {
    using facemesh::cuda::Graph;
    define_kernels<&facemesh::cuda::crop, &facemesh::cuda::decode, &facemesh::cuda::decode_coefficients>(module);
    module.attr("architectures") = FACEMESH_CUDA_ARCHITECTURES;
    module.attr("toolkit_version") = FACEMESH_CUDA_VERSION;
    module.def("check_device", &facemesh::cuda::check_device,
               "Load the kernels onto the current device. Raises RuntimeError if there is none that can run them.");
    module.def("begin_capture", &facemesh::cuda::begin_capture, "stream"_a,
               "Record the work that this thread queues on a stream (not the default one) instead of running it.\n"
               "Raises RuntimeError.");
    nb::class_<Graph>(module, "Graph",
                      "A recorded sequence of device work. Memory that it reads and writes must stay where it was.")
        .def("launch", &Graph::launch, "stream"_a, nb::call_guard<nb::gil_scoped_release>(),
             "Enqueue all of it on a stream. Raises RuntimeError.")
        .def("close", &Graph::close, nb::call_guard<nb::gil_scoped_release>(),
             "Release it; a second call does nothing.");
    module.def(
        "end_capture", [](uintptr_t stream) { return new Graph(stream); }, nb::rv_policy::take_ownership,
        nb::call_guard<nb::gil_scoped_release>(), "stream"_a,
        "End the capture that begin_capture began, on the same thread. Raises RuntimeError for work that cannot be\n"
        "recorded; the stream can be used again in either case.");
}
#endif

} // namespace

void bind_kernels(nb::module_ &module) {
    nb::module_ host = module.def_submodule(
        "host_kernels", "The device's kernels run by the CPU, on host memory: for tests. The stream is not used.");
    define_kernels<&facemesh::host::crop, &facemesh::host::decode, &facemesh::host::decode_coefficients>(host);
    host.def("check_device", [] {}, "Nothing to check.");
#ifdef FACEMESH_CUDA
    nb::module_ cuda = module.def_submodule(
        "cuda", "Kernels and graphs on the calling thread's current CUDA device; addresses are device memory.");
    define_cuda(cuda);
    module.attr("has_cuda") = true;
#else
    module.attr("has_cuda") = false;
#endif
}
