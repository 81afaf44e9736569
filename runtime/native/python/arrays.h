// Arrays that come from NumPy and go there.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <initializer_list>
#include <new>
#include <stdexcept>
#include <string>

#include "cpu/huge_pages.h"

template <typename T, typename Shape>
using In = nanobind::ndarray<const T, Shape, nanobind::c_contig, nanobind::device::cpu>;
using Floats = nanobind::ndarray<nanobind::numpy, float>;

inline void require(bool condition, const std::string &message) {
    if (!condition) throw std::invalid_argument(message);
}

// NumPy lets an array begin anywhere; vector instructions and the language do not.
template <typename... Arrays> void require_aligned(const Arrays &...arrays) {
    const auto is_aligned = [](const auto &array) {
        return reinterpret_cast<uintptr_t>(array.data()) % alignof(decltype(*array.data())) == 0;
    };
    require((is_aligned(arrays) && ...), "an array is not aligned to its numbers: copy it");
}

// A new array that NumPy owns. A picture lies in few large pages: a page costs more at its first use than the drawing
// of what it holds.
inline Floats make_floats(std::initializer_list<size_t> shape, float **data) {
    size_t count = 1;
    for (size_t side : shape) count *= side;
    const bool is_large = count * sizeof(float) >= facemesh::HugePages<float>::PAGE;
    *data = is_large ? facemesh::HugePages<float>().allocate(count)
                     : static_cast<float *>(std::malloc(std::max(count, size_t(1)) * sizeof(float)));
    if (*data == nullptr) throw std::bad_alloc();
    return Floats(*data, shape, nanobind::capsule(*data, [](void *p) noexcept { std::free(p); }));
}
