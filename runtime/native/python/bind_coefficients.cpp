// Python binding of the decoder of coefficients.
#include "bind_coefficients.h"

#include <nanobind/stl/pair.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "arrays.h"
#include "cpu/coefficients.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

using Vector = In<double, nb::ndim<1>>;

facemesh::CoefficientDecoder *make_decoder(In<float, nb::shape<-1, 3>> mean, In<float, nb::ndim<2>> basis, int bits,
                                           int pose_count, Vector number_mean, Vector number_std,
                                           In<double, nb::shape<3, 4>> fixed_pose, std::pair<double, double> origin,
                                           In<double, nb::shape<4>> sphere, int vector_bytes) {
    require_aligned(mean, basis, number_mean, number_std, fixed_pose, sphere);
    const size_t count = mean.shape(0), numbers = number_mean.shape(0);
    require(count > 0 && basis.shape(0) == 3 * count, "coefficients: basis must have three rows per vertex of mean");
    require(bits == 32 || bits == 16 || bits == 8, "coefficients: bits must be 32, 16 or 8");
    require(pose_count == 12 || pose_count == 0, "coefficients: pose_count must be 12 or 0");
    require(number_std.shape(0) == numbers && numbers == size_t(pose_count) + basis.shape(1),
            "coefficients: mean and std must have an entry for each number of the pose and column of the basis");
    facemesh::CoefficientFormat format;
    format.pose_count = pose_count;
    format.mean.assign(number_mean.data(), number_mean.data() + numbers);
    format.std.assign(number_std.data(), number_std.data() + numbers);
    std::copy_n(fixed_pose.data(), 12, format.fixed_pose);
    format.origin_x = origin.first;
    format.origin_y = origin.second;
    std::copy_n(sphere.data(), 4, format.sphere);
    return new facemesh::CoefficientDecoder(std::move(format), mean.data(), basis.data(), count, bits,
                                             vector_bytes);
}

void check_matrix(const double *m) {
    const bool is_sound = std::isnormal(m[0] * m[4] - m[1] * m[3]) && std::isfinite(m[2] + m[5]);
    require(is_sound, "decode: the crop matrix is singular or not finite");
}

std::vector<Floats> decode(const facemesh::CoefficientDecoder &decoder, In<float, nb::ndim<2>> outputs,
                           In<double, nb::shape<-1, 2, 3>> matrices) {
    require_aligned(outputs, matrices);
    const size_t faces = outputs.shape(0);
    require(outputs.shape(1) == decoder.number_count(), "decode: an output has another count than the model spec says");
    require(matrices.shape(0) == faces, "decode: there must be one crop matrix per output");
    for (size_t face = 0; face < faces; ++face) check_matrix(matrices.data() + 6 * face);
    std::vector<Floats> result;
    std::vector<float *> vertices(faces);
    for (float *&data : vertices) result.push_back(make_floats({decoder.vertex_count(), 3}, &data));
    nb::gil_scoped_release release;
    decoder.decode(outputs.data(), matrices.data(), faces, vertices.data());
    return result;
}

void decode_one(const facemesh::CoefficientDecoder &decoder, In<float, nb::ndim<1>> output,
                In<double, nb::shape<2, 3>> matrix,
                nb::ndarray<float, nb::shape<-1, 3>, nb::c_contig, nb::device::cpu> out) {
    require_aligned(output, matrix, out);
    require(output.shape(0) == decoder.number_count(), "decode: an output has another count than the model spec says");
    require(out.shape(0) == decoder.vertex_count(), "decode: out must have a row for every vertex");
    check_matrix(matrix.data());
    float *vertices = out.data();
    nb::gil_scoped_release release;
    decoder.decode(output.data(), matrix.data(), 1, &vertices);
}

} // namespace

void bind_coefficients(nb::module_ &module) {
    nb::class_<facemesh::CoefficientDecoder>(
        module, "CoefficientDecoder",
        "Outputs (N, P) float32 and crop matrices (N, 2, 3) float64 -> N times (V, 3) float32 frame px.\n\n"
        "See runtime.families.coefficients. bits, 32, 16 or 8, are those in which the basis is held;\n"
        "vector_bytes limits the vectors to 64, 32 or 16 bytes, for tests.")
        .def(nb::new_(&make_decoder), "mean"_a.noconvert(), "basis"_a.noconvert(), "bits"_a, "pose_count"_a,
             "number_mean"_a.noconvert(), "number_std"_a.noconvert(), "fixed_pose"_a.noconvert(), "origin"_a,
             "sphere"_a.noconvert(), "vector_bytes"_a = 64)
        .def("__call__", &decode, "outputs"_a.noconvert(), "matrices"_a.noconvert())
        .def("decode_one", &decode_one, "output"_a.noconvert(), "matrix"_a.noconvert(), "out"_a.noconvert(),
             "Decode one output (P,) by its matrix (2, 3) into out (V, 3) float32, contiguous.");
}
