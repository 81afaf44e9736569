# The extension module runtime._native: bindings of facemesh_core and nothing else.

find_package(Python 3.10 REQUIRED COMPONENTS Interpreter Development.Module)
find_package(nanobind CONFIG REQUIRED)

# NOMINSIZE: nanobind would compile with -Os otherwise.
nanobind_add_module(_native NB_STATIC NOMINSIZE LTO
  runtime/native/python/bind_coefficients.cpp
  runtime/native/python/bind_driver.cpp
  runtime/native/python/bind_frame_parts.cpp
  runtime/native/python/bind_kernels.cpp
  runtime/native/python/bind_tracking.cpp
  runtime/native/python/bind_rendering.cpp
  runtime/native/python/module.cpp)
target_link_libraries(_native PRIVATE facemesh_core)
set_target_properties(_native PROPERTIES CXX_EXTENSIONS OFF)
if(NOT MSVC)
  target_compile_options(_native PRIVATE -Wall -Wextra -Wno-unknown-pragmas)
endif()

install(TARGETS _native LIBRARY DESTINATION runtime)
