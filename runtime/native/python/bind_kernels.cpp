// Python bindings of _native.host_kernels and _native.KernelModule. Memory is given as addresses, whose sizes cannot be
// checked; the numbers beside them are.
#include "bind_kernels.h"

#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <cmath>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "driver/kernel_module.h"
#include "gpu/host_kernels.h"

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

// The kernels run by the CPU, as an object like a KernelModule.
struct HostKernels {
    void crop(const facemesh::CropTask &task, uintptr_t) const { facemesh::host::crop(task); }
    void decode(const facemesh::DecodeTask &task, uintptr_t) const { facemesh::host::decode(task); }
    void decode_coefficients(const facemesh::CoefficientTask &task, uintptr_t) const {
        facemesh::host::decode_coefficients(task);
    }
    void face_rows(const facemesh::FaceRowTask &task, uintptr_t) const { facemesh::host::face_rows(task); }
};

facemesh::FrameView frame_view(uintptr_t frame, int height, int width, int64_t row_stride) {
    require_between("height", height, 1 << 24);
    require_between("width", width, 1 << 24);
    if (row_stride < 3 * int64_t(width))
        throw std::invalid_argument("row_stride must be at least 3 * width bytes, is " + std::to_string(row_stride));
    if (row_stride > INT32_MAX / height) throw std::invalid_argument("the frame must be smaller than 2 GiB");
    return {pointer<const uint8_t>("frame", frame, 4), height, width, int32_t(row_stride)};
}

template <typename Kernels>
void crop(const Kernels &kernels, uintptr_t frame, int height, int width, int64_t row_stride, uintptr_t matrices, int n,
          uintptr_t out, int out_height, int out_width, bool channels_last, bool swap_colours, double low, double high,
          bool half, uintptr_t stream, uintptr_t landmarks, uintptr_t view) {
    require_between("n", n, MAX_FACES);
    require_between("out_height", out_height, MAX_SIDE);
    require_between("out_width", out_width, MAX_SIDE);
    require_finite("low", low);
    require_finite("high", high);
    if (landmarks != 0 && channels_last)
        throw std::invalid_argument("landmarks must be 0 for channels_last: their channel is a plane of its own");
    facemesh::CropTask task = {};
    if (view == 0)
        task.frame = frame_view(frame, height, width, row_stride);
    else
        task.view = pointer<const facemesh::FrameView>("view", view, 8);
    task.matrices = pointer<const double>("matrices", matrices, 8);
    task.faces = n;
    task.out = pointer<void>("out", out, half ? 2 : 4);
    task.landmarks = landmarks == 0 ? nullptr : pointer<const float>("landmarks", landmarks, 4);
    task.width = out_width;
    task.height = out_height;
    task.channels_last = channels_last;
    task.swap_colours = swap_colours;
    task.low = float(low);
    task.gain = float((high - low) / 255);
    task.half = half;
    nb::gil_scoped_release release;
    kernels.crop(task, stream);
}

template <typename Kernels>
void decode(const Kernels &kernels, uintptr_t map, bool half, int map_size, bool channels_last, double scale,
            uintptr_t matrices, int n, uintptr_t indices, int count, int resolution, uintptr_t out,
            uintptr_t not_finite, uintptr_t stream) {
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
    task.not_finite = pointer<uint8_t>("not_finite", not_finite, 1);
    nb::gil_scoped_release release;
    kernels.decode(task, stream);
}

template <typename Kernels>
void decode_coefficients(const Kernels &kernels, uintptr_t output, bool half, int pose_count, int coefficient_count,
                         uintptr_t constants, uintptr_t mean, uintptr_t basis, bool basis_half, uintptr_t matrices,
                         int n, int count, uintptr_t out, uintptr_t not_finite, uintptr_t stream) {
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
    task.not_finite = pointer<uint8_t>("not_finite", not_finite, 1);
    nb::gil_scoped_release release;
    kernels.decode_coefficients(task, stream);
}

template <typename Kernels>
void face_rows(const Kernels &kernels, uintptr_t stride_8, uintptr_t stride_16, uintptr_t stride_32, bool half,
               int height, int width, double threshold, int most, uintptr_t out, uintptr_t stream) {
    require_between("height", height, MAX_SIDE);
    require_between("width", width, MAX_SIDE);
    require_between("most", most, MAX_SIDE * MAX_SIDE);
    if (height % facemesh::LARGEST_STRIDE != 0 || width % facemesh::LARGEST_STRIDE != 0)
        throw std::invalid_argument("height and width must be multiples of " +
                                    std::to_string(facemesh::LARGEST_STRIDE));
    require_finite("threshold", threshold);
    facemesh::FaceRowTask task;
    task.levels[0] = pointer<const void>("stride_8", stride_8, half ? 2 : 4);
    task.levels[1] = pointer<const void>("stride_16", stride_16, half ? 2 : 4);
    task.levels[2] = pointer<const void>("stride_32", stride_32, half ? 2 : 4);
    task.half = half;
    task.width = width;
    task.height = height;
    task.threshold = float(threshold);
    // The score is at most the root of either probability.
    const double least = threshold * threshold;
    task.least_logit = threshold > 0 && least < 1 ? float(std::log(least / (1 - least))) : -INFINITY;
    task.most = most;
    task.count = pointer<int32_t>("out", out, 4);
    task.rows = reinterpret_cast<facemesh::FaceRow *>(out) + 1;
    nb::gil_scoped_release release;
    kernels.face_rows(task, stream);
}

template <typename Kernels> void define_kernels(nb::class_<Kernels> &kernels) {
    kernels.def("crop", &crop<Kernels>, "frame"_a, "height"_a, "width"_a, "row_stride"_a, "matrices"_a, "n"_a, "out"_a,
               "out_height"_a, "out_width"_a, "channels_last"_a, "swap_colours"_a, "low"_a, "high"_a, "half"_a,
               "stream"_a, "landmarks"_a = 0, "view"_a = 0,
               "Crop, antialias and normalise n faces of a frame, as runtime.geometry.crop.warp_crop does.\n\n"
               "frame: (height, width, 3) uint8 BGR, row_stride bytes from row to row, on a 4-byte boundary.\n"
               "matrices: (n, 2, 3) float64 similarities, frame px -> crop px; a singular one gives black.\n"
               "out: (n, 3, out_height, out_width), or (n, out_height, out_width, 3) for channels_last; float32, or\n"
               "float16 for half; low and high are the values of colours 0 and 255. landmarks: (n, 68, 3) float32\n"
               "frame px for the fourth plane of an out (n, 4, out_height, out_width), or 0; see\n"
               "runtime.geometry.crop.draw_landmarks.\n"
               "view: address of what pack_frame_view wrote; the four numbers of the frame are not used then.\n"
               "Raises ValueError for numbers out of range.");
    kernels.def("decode", &decode<Kernels>, "map"_a, "half"_a, "map_size"_a, "channels_last"_a, "scale"_a,
               "matrices"_a, "n"_a, "indices"_a, "count"_a, "resolution"_a, "out"_a, "not_finite"_a,
               "stream"_a,
               "Decode count points of each of n position maps, as runtime.families.position_map.Decoder does.\n\n"
               "map: (n, 3, map_size, map_size), or (n, map_size, map_size, 3) for channels_last; float32, or float16\n"
               "for half; its values times scale are crop px. matrices: (n, 2, 3) float64, frame px -> crop px.\n"
               "indices: (count,) int32 pixels of the flattened resolution x resolution grid; not checked.\n"
               "out: (n, count, 3) float32, frame px. not_finite: (n, ceil(count / POINTS_OF_A_MARK)) uint8, 1 where\n"
               "one of so many points in turn is not finite, else 0. Raises ValueError for numbers out of range.");
    kernels.def("decode_coefficients", &decode_coefficients<Kernels>, "output"_a, "half"_a, "pose_count"_a,
               "coefficient_count"_a, "constants"_a, "mean"_a, "basis"_a, "basis_half"_a, "matrices"_a, "n"_a,
               "count"_a, "out"_a, "not_finite"_a, "stream"_a,
               "Decode count points of n faces, as runtime.families.coefficients.Decoder does.\n\n"
               "output: (n, pose_count + coefficient_count) float32, or float16 for half. constants: float32, mean\n"
               "and std of these numbers, a (3, 4) pose for pose_count 0, two numbers of the origin, four of the\n"
               "mean face's sphere. mean: (3, count) float32. basis: (coefficient_count, 3, count) float32, or\n"
               "float16 for basis_half. matrices: (n, 2, 3) float64, frame px -> crop px. out: (n, count, 3) float32,\n"
               "frame px. not_finite: (n, ceil(count / POINTS_OF_A_MARK)) uint8, see decode.\n"
               "Raises ValueError for numbers out of range.");
    kernels.def("face_rows", &face_rows<Kernels>, "stride_8"_a, "stride_16"_a, "stride_32"_a, "half"_a, "height"_a,
               "width"_a, "threshold"_a, "most"_a, "out"_a, "stream"_a,
               "Collect YuNet's faces, as runtime.detection.yunet_rows.candidates does.\n\n"
               "stride_8, stride_16, stride_32: (16, height / stride, width / stride) float32, or float16 for half.\n"
               "out: (1 + most, 16) 32-bit words. The first is a count, int32: that of places that score at least\n"
               "threshold is added to it. From the second line on the first most of them, in any order: x, y, w, h,\n"
               "five points (x, y), score, all float32, and the place, int32. Raises ValueError for numbers out of\n"
               "range.");
}

} // namespace

void bind_kernels(nb::module_ &module) {
    nb::class_<HostKernels> host(module, "HostKernels");
    define_kernels(host);
    module.attr("host_kernels") = HostKernels(); // the device's kernels run by the CPU, on host memory: for tests

    using facemesh::cuda::KernelModule;
    nb::class_<KernelModule> kernels(module, "KernelModule",
                                     "Kernels on the calling thread's current CUDA device; addresses are its memory.\n"
                                     "\n"
                                     "images: machine code or PTX; the first is taken that the device can use. Raises\n"
                                     "CudaError.");
    kernels.def(
        nb::new_([](const std::vector<nb::bytes> &images) {
            std::vector<std::string> copies; // PTX must end with a zero
            for (const nb::bytes &image : images) copies.emplace_back(image.c_str(), image.size());
            return new KernelModule(copies);
        }),
        "images"_a);
    define_kernels(kernels);
    kernels.def("close", &KernelModule::close);

    module.attr("POINTS_OF_A_MARK") = facemesh::THREADS_OF_A_BLOCK;
    module.attr("FRAME_VIEW_NBYTES") = sizeof(facemesh::FrameView);
    module.def(
        "pack_frame_view",
        [](uintptr_t out, uintptr_t frame, int height, int width, int64_t row_stride) {
            *pointer<facemesh::FrameView>("out", out, 8) = frame_view(frame, height, width, row_stride);
        },
        "out"_a, "frame"_a, "height"_a, "width"_a, "row_stride"_a,
        "Write FRAME_VIEW_NBYTES at the address out: a frame as crop reads it by its argument view.\n"
        "Raises ValueError for numbers out of range.");
#ifdef FACEMESH_CUDA_VERSION
    module.attr("has_cuda") = true; // machine code was made by a CUDA compiler; PTX is always there
    module.attr("cuda_toolkit") = FACEMESH_CUDA_VERSION;
    module.attr("cuda_architectures") = FACEMESH_CUDA_ARCHITECTURES;
#else
    module.attr("has_cuda") = false;
#endif
}
