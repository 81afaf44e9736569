#pragma once

#include <nanobind/nanobind.h>

void bind_frame_parts(nanobind::module_ &module);
