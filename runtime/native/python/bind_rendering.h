#pragma once

#include <nanobind/nanobind.h>

// Adds rasterise and visible_vertices.
void bind_rendering(nanobind::module_ &module);
