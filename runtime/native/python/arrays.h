// Arrays that come from NumPy and go there.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <initializer_list>
#include <stdexcept>
#include <string>

template <typename T, typename Shape>
using In = nanobind::ndarray<const T, Shape, nanobind::c_contig, nanobind::device::cpu>;
using Floats = nanobind::ndarray<nanobind::numpy, float>;

inline void require(bool condition, const std::string &message) {
    if (!condition) throw std::invalid_argument(message);
}

// A new array that NumPy owns.
inline Floats make_floats(std::initializer_list<size_t> shape, float **data) {
    size_t count = 1;
    for (size_t side : shape) count *= side;
    *data = new float[count];
    return Floats(*data, shape,
                  nanobind::capsule(*data, [](void *p) noexcept { delete[] static_cast<float *>(p); }));
}
