#pragma once

#include <nanobind/nanobind.h>

void bind_tracking(nanobind::module_ &module);
