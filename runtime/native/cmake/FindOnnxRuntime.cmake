# Finds ONNX Runtime's C API: the header onnxruntime_c_api.h and the shared library, in any of
#   - a distribution's package (Debian's libonnxruntime-dev),
#   - an unpacked release onnxruntime-linux-*.tgz: -DONNXRUNTIME_ROOT=FOLDER,
#   - the folder `onnxruntime` of the Python wheel, which has no headers: -DONNXRUNTIME_ROOT="FOLDER;FOLDER OF HEADERS".
# Folders that are given must have one of the two. Defines the target OnnxRuntime::OnnxRuntime, and OnnxRuntime_BUNDLED:
# the library if only its full name exists (as in a wheel), so that it must be installed under its soname.
include("${CMAKE_CURRENT_LIST_DIR}/roots.cmake")
facemesh_root(ONNXRUNTIME_ROOT OnnxRuntime "ONNX Runtime")

macro(onnxruntime_find)
  find_path(OnnxRuntime_INCLUDE_DIR onnxruntime_c_api.h HINTS ${ONNXRUNTIME_ROOT} NO_CMAKE_FIND_ROOT_PATH ${ARGN}
    PATH_SUFFIXES include include/onnxruntime include/onnxruntime/core/session onnxruntime onnxruntime/core/session)
  if(NOT OnnxRuntime_LIBRARY)
    find_library(OnnxRuntime_LIBRARY onnxruntime HINTS ${ONNXRUNTIME_ROOT} NO_CMAKE_FIND_ROOT_PATH ${ARGN}
      PATH_SUFFIXES lib lib64 capi)
  endif()
endmacro()
onnxruntime_find(NO_DEFAULT_PATH)

set(OnnxRuntime_BUNDLED "")
if(NOT OnnxRuntime_LIBRARY)
  foreach(root ${ONNXRUNTIME_ROOT})
    file(GLOB found "${root}/libonnxruntime.so.1.*" "${root}/capi/libonnxruntime.so.1.*" "${root}/lib/libonnxruntime.so.1.*")
    if(found)
      list(GET found 0 OnnxRuntime_BUNDLED)
      # The linker wants one name and the loader another.
      file(MAKE_DIRECTORY "${CMAKE_BINARY_DIR}/onnxruntime")
      foreach(name libonnxruntime.so libonnxruntime.so.1)
        file(CREATE_LINK "${OnnxRuntime_BUNDLED}" "${CMAKE_BINARY_DIR}/onnxruntime/${name}" SYMBOLIC)
      endforeach()
      set(OnnxRuntime_LIBRARY "${CMAKE_BINARY_DIR}/onnxruntime/libonnxruntime.so")
      break()
    endif()
  endforeach()
endif()

if(NOT ONNXRUNTIME_ROOT OR OnnxRuntime_INCLUDE_DIR OR OnnxRuntime_LIBRARY)
  onnxruntime_find()
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(OnnxRuntime REQUIRED_VARS OnnxRuntime_LIBRARY OnnxRuntime_INCLUDE_DIR)
mark_as_advanced(OnnxRuntime_INCLUDE_DIR OnnxRuntime_LIBRARY)

if(OnnxRuntime_FOUND AND NOT TARGET OnnxRuntime::OnnxRuntime)
  add_library(OnnxRuntime::OnnxRuntime UNKNOWN IMPORTED)
  set_target_properties(OnnxRuntime::OnnxRuntime PROPERTIES
    IMPORTED_LOCATION "${OnnxRuntime_LIBRARY}"
    INTERFACE_INCLUDE_DIRECTORIES "${OnnxRuntime_INCLUDE_DIR}")
endif()
