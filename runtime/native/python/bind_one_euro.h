#pragma once

#include <nanobind/nanobind.h>

void bind_one_euro(nanobind::module_ &module);
