#pragma once

#include <nanobind/nanobind.h>

// Adds host_kernels, has_cuda and, in builds with CUDA, cuda.
void bind_kernels(nanobind::module_ &module);
