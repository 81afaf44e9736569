// Python bindings of runtime._native: shapes and ranges are checked here, dtypes by nanobind.
#include <nanobind/stl/pair.h>

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "arrays.h"
#include "bind_coefficients.h"
#include "bind_driver.h"
#include "bind_frame_parts.h"
#include "bind_kernels.h"
#include "bind_tracking.h"
#include "bind_rendering.h"
#include "cpu/crop.h"
#include "cpu/decode.h"
#include "cpu/landmark_channel.h"
#include "geometry/face_crop.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

// Its rows may lie apart: a region of a frame is fine.
using Image = nb::ndarray<const uint8_t, nb::shape<-1, -1, 3>, nb::device::cpu>;
using Matrix = In<double, nb::shape<2, 3>>;
using Output = nb::ndarray<float, nb::ndim<3>, nb::c_contig, nb::device::cpu>;

facemesh::Decoder *make_decoder(In<int32_t, nb::ndim<1>> face_indices, In<int32_t, nb::ndim<1>> landmark_vertices,
                                int resolution, int map_size, bool channels_last, double scale) {
    require_aligned(face_indices, landmark_vertices);
    require(resolution > 0 && map_size > 0, "decoder: resolution and map_size must be positive");
    int64_t previous = -1;
    for (size_t i = 0; i < face_indices.shape(0); ++i) {
        require(face_indices(i) > previous && face_indices(i) < int64_t(resolution) * resolution,
                "decoder: face_indices must ascend within the grid");
        previous = face_indices(i);
    }
    std::vector<int32_t> landmarks;
    for (size_t i = 0; i < landmark_vertices.shape(0); ++i) {
        require(landmark_vertices(i) >= 0 && size_t(landmark_vertices(i)) < face_indices.shape(0),
                "decoder: landmark_vertices out of range");
        landmarks.push_back(landmark_vertices(i));
    }
    return new facemesh::Decoder(face_indices.data(), face_indices.shape(0), std::move(landmarks), resolution, map_size,
                                 channels_last, scale);
}

std::pair<Floats, Floats> decode(const facemesh::Decoder &decoder, In<float, nb::ndim<3>> map, Matrix matrix) {
    require_aligned(map, matrix);
    const size_t side = decoder.map_size(), channel_axis = decoder.channels_last() ? 2 : 0;
    for (size_t axis = 0; axis < 3; ++axis)
        require(map.shape(axis) == (axis == channel_axis ? 3 : side),
                "decode: the position map has a shape other than the model spec says");
    const double *m = matrix.data(), determinant = m[0] * m[4] - m[1] * m[3];
    require(std::isnormal(determinant), "decode: the crop matrix is singular or not finite");
    float *vertices, *landmarks;
    auto result = std::make_pair(make_floats({decoder.vertex_count(), 3}, &vertices),
                                 make_floats({decoder.landmark_count(), 3}, &landmarks));
    nb::gil_scoped_release release;
    decoder.decode(map.data(), m, vertices, landmarks);
    return result;
}

facemesh::InputFormat make_format(const Output &out, bool channels_last, bool swap_colours, double low, double high) {
    require_aligned(out);
    const size_t side = out.shape(1);
    const size_t channels = channels_last ? out.shape(2) : out.shape(0);
    const size_t other_side = channels_last ? out.shape(0) : out.shape(2);
    require(side > 0 && channels == 3 && other_side == side,
            "crop: out must be (3, size, size), or (size, size, 3) for channels_last");
    return {int(side), channels_last, swap_colours, float(low), float((high - low) / 255)};
}

void finish_crop(In<uint8_t, nb::shape<-1, -1, 3>> crop, Output out, bool channels_last, bool swap_colours, double low,
                 double high) {
    const auto format = make_format(out, channels_last, swap_colours, low, high);
    require(crop.shape(0) == size_t(format.size) && crop.shape(1) == size_t(format.size),
            "finish_crop: crop and out must have the same side");
    nb::gil_scoped_release release;
    facemesh::finish_crop(crop.data(), format, out.data());
}

// False for a matrix that is more than a positive scale and a shift.
bool crop_axis_aligned(Image image, Matrix matrix, int most_samples, Output out, bool channels_last, bool swap_colours,
                       double low, double high) {
    const auto format = make_format(out, channels_last, swap_colours, low, high);
    require_aligned(matrix);
    const double *m = matrix.data();
    require(image.shape(0) > 0 && image.shape(1) > 0, "crop_axis_aligned: the image is empty");
    require(image.stride(1) == 3 && image.stride(2) == 1,
            "crop_axis_aligned: the pixels of an image row must be contiguous");
    require(most_samples >= 1 && most_samples <= 64, "crop_axis_aligned: most_samples must be 1..64");
    if (!(m[0] > 0 && m[0] == m[4] && m[1] == 0 && m[3] == 0)) return false;
    // A window of the frame is as wide as 1 / scale: memory must stay within bounds.
    require(m[0] >= 1e-7 && std::isfinite(m[0]) && std::isfinite(m[2]) && std::isfinite(m[5]),
            "crop_axis_aligned: the matrix must be finite, a scale from 1e-7 on and a shift");
    const int samples = int(std::clamp(std::nearbyint(1 / m[0]), 1.0, double(most_samples)));
    nb::gil_scoped_release release;
    facemesh::crop_axis_aligned(image.data(), int(image.shape(0)), int(image.shape(1)), image.stride(0), m[0], m[2],
                                m[5], samples, format, out.data());
    return true;
}

// Any other similarity: turned, antialiased.
void crop_turned(Image image, Matrix matrix, Output out, bool channels_last, bool swap_colours, double low,
                 double high) {
    const auto format = make_format(out, channels_last, swap_colours, low, high);
    require_aligned(matrix);
    require(image.shape(0) > 0 && image.shape(1) > 0, "crop_turned: the image is empty");
    require(image.stride(1) == 3 && image.stride(2) == 1, "crop_turned: the pixels of an image row must be contiguous");
    facemesh::Matrix crop;
    std::copy_n(matrix.data(), crop.size(), crop.begin());
    require(facemesh::is_sound(crop), "crop_turned: the matrix must be a finite similarity with a scale from 1e-7 on");
    static thread_local facemesh::FaceCropper cropper; // its memory serves the next crop
    nb::gil_scoped_release release;
    cropper({image.data(), int(image.shape(0)), int(image.shape(1)), image.stride(0), false}, crop, format, out.data());
}

void draw_landmarks(In<float, nb::shape<-1, 3>> landmarks, Matrix matrix,
                    nb::ndarray<float, nb::ndim<2>, nb::device::cpu> plane) {
    require_aligned(landmarks, matrix, plane);
    require(landmarks.shape(0) == facemesh::LANDMARK_COUNT, "draw_landmarks: landmarks must be (68, 3)");
    require(plane.shape(0) > 1 && plane.shape(0) == plane.shape(1), "draw_landmarks: the plane must be square");
    facemesh::draw_landmarks(landmarks.data(), matrix.data(), int(plane.shape(0)), plane.data(), plane.stride(0),
                             plane.stride(1));
}

} // namespace

NB_MODULE(_native, module) {
    nb::set_leak_warnings(false); // a pipeline that a script keeps in a global until it ends is no leak
    module.doc() = "Decode, crop and rasterise. Arguments are never converted silently: dtypes must fit exactly.";
    nb::class_<facemesh::Decoder>(module, "Decoder",
                                  "Position map -> (vertices (V, 3), landmarks (L, 3)) float32 frame px.\n\n"
                                  "See runtime.families.position_map.")
        .def(nb::new_(&make_decoder), "face_indices"_a.noconvert(), "landmark_vertices"_a.noconvert(), "resolution"_a,
             "map_size"_a, "channels_last"_a, "scale"_a)
        .def("__call__", &decode, "position_map"_a.noconvert(), "matrix"_a.noconvert());
    module.def("finish_crop", &finish_crop, "crop"_a.noconvert(), "out"_a.noconvert(), "channels_last"_a,
               "swap_colours"_a, "low"_a, "high"_a, "(S, S, 3) uint8 crop -> float32 network input, written into out.");
    module.def("crop_axis_aligned", &crop_axis_aligned, "image"_a.noconvert(), "matrix"_a.noconvert(), "most_samples"_a,
               "out"_a.noconvert(), "channels_last"_a, "swap_colours"_a, "low"_a, "high"_a,
               "Crop, antialias and normalise a (H, W, 3) uint8 frame into out; False for a matrix that is more\n"
               "than a positive scale and a shift.\n\n"
               "See runtime.geometry.crop.");
    module.def("crop_turned", &crop_turned, "image"_a.noconvert(), "matrix"_a.noconvert(), "out"_a.noconvert(),
               "channels_last"_a, "swap_colours"_a, "low"_a, "high"_a,
               "Crop, antialias and normalise a (H, W, 3) uint8 frame into out by any similarity.\n\n"
               "See runtime.geometry.crop.");
    module.def("draw_landmarks", &draw_landmarks, "landmarks"_a.noconvert(), "matrix"_a.noconvert(),
               "plane"_a.noconvert(),
               "Fill the (S, S) float32 plane of a network's input, which may be strided: -1, and 1 at 18 points of\n"
               "the landmarks (68, 3) float32 frame px, clipped to rows and columns 1..S - 1. matrix: (2, 3) float64.");
    bind_coefficients(module);
    bind_driver(module);
    bind_frame_parts(module);
    bind_kernels(module);
    bind_tracking(module);
    bind_rendering(module);
}
