#pragma once

#include <nanobind/nanobind.h>

void bind_driver(nanobind::module_ &module);
