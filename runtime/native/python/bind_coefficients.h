#pragma once

#include <nanobind/nanobind.h>

// Adds CoefficientDecoder.
void bind_coefficients(nanobind::module_ &module);
