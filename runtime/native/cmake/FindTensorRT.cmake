# Finds the headers of TensorRT (8.5 or newer) and of TensorRT-RTX, and their libraries:
#   - TensorRT: NVIDIA's packages (JetPack, libnvinfer-dev), or an unpacked archive: -DTENSORRT_ROOT=FOLDER
#   - TensorRT-RTX: an unpacked archive: -DTENSORRT_RTX_ROOT=FOLDER
# Both may be lists of folders, as the Python wheels have libraries alone. CUDA's headers are needed beside them, its
# libraries are not. Folders that are given must have headers or library. Nothing is linked: a library that is not here
# is looked for when the first engine is opened.
# Defines for each the target TensorRT::TensorRT or TensorRT::RTX, and TensorRT_NOTE or TensorRT_RTX_NOTE: one line on
# what was found or is missing.
include("${CMAKE_CURRENT_LIST_DIR}/roots.cmake")
facemesh_root(TENSORRT_ROOT TensorRT TensorRT)
facemesh_root(TENSORRT_RTX_ROOT TensorRT_RTX TensorRT-RTX)
find_path(TensorRT_CUDA_INCLUDE_DIR cuda_runtime_api.h HINTS ENV CUDA_HOME ENV CUDA_PATH PATHS /usr/local/cuda
  PATH_SUFFIXES include NO_CMAKE_FIND_ROOT_PATH)

# The number of one of the macros in a version header, "" if it is not there.
function(tensorrt_number header macro result)
  set(${result} "" PARENT_SCOPE)
  file(STRINGS "${header}" lines REGEX "define +${macro} ")
  if(lines MATCHES "${macro} +([0-9]+)")
    set(${result} ${CMAKE_MATCH_1} PARENT_SCOPE)
  elseif(lines MATCHES "${macro} +(TRT_[A-Z_]+)")
    tensorrt_number("${header}" ${CMAKE_MATCH_1} number)
    set(${result} "${number}" PARENT_SCOPE)
  endif()
endfunction()

# prefix: of the variables; title: of the library; root: variable with its folders; target: to be defined; names: of the
# library's file
function(tensorrt_find prefix title root target names)
  set(${prefix}_NOTE "give -D${root}=FOLDER with include/NvInferRuntime.h" PARENT_SCOPE)
  set(path ${prefix}_INCLUDE_DIR NvInferRuntime.h HINTS ${${root}} PATH_SUFFIXES include NO_CMAKE_FIND_ROOT_PATH)
  set(library ${prefix}_LIBRARY NAMES ${names} HINTS ${${root}} PATH_SUFFIXES lib lib64 NO_CMAKE_FIND_ROOT_PATH)
  find_path(${path} NO_DEFAULT_PATH)
  find_library(${library} NO_DEFAULT_PATH)
  if(NOT ${root} OR ${prefix}_INCLUDE_DIR OR ${prefix}_LIBRARY)
    if(prefix STREQUAL "TensorRT") # headers of RTX have the same names
      find_path(${path})
    endif()
    find_library(${library})
  endif()
  mark_as_advanced(${prefix}_INCLUDE_DIR ${prefix}_LIBRARY)
  if(NOT ${prefix}_INCLUDE_DIR)
    return()
  endif()
  set(version "")
  foreach(part MAJOR MINOR PATCH)
    tensorrt_number("${${prefix}_INCLUDE_DIR}/NvInferVersion.h" NV_TENSORRT_${part} number)
    list(APPEND version ${number})
  endforeach()
  string(REPLACE ";" "." version "${version}")
  if(prefix STREQUAL "TensorRT" AND version VERSION_LESS 8.5)
    set(${prefix}_NOTE "version ${version} is too old, 8.5 is the oldest" PARENT_SCOPE)
    return()
  endif()
  if(NOT TensorRT_CUDA_INCLUDE_DIR)
    set(${prefix}_NOTE "cuda_runtime_api.h is missing: install CUDA's headers (cuda-cudart-dev), or set CUDA_HOME" PARENT_SCOPE)
    return()
  endif()
  add_library(${target} INTERFACE IMPORTED)
  set_target_properties(${target} PROPERTIES
    INTERFACE_INCLUDE_DIRECTORIES "${${prefix}_INCLUDE_DIR};${TensorRT_CUDA_INCLUDE_DIR}")
  if(${prefix}_LIBRARY)
    set_property(TARGET ${target} PROPERTY
      INTERFACE_COMPILE_DEFINITIONS "FACEMESH_LIBRARY_PATH=\"${${prefix}_LIBRARY}\"")
    set(${prefix}_NOTE "${title} ${version}, ${${prefix}_LIBRARY}" PARENT_SCOPE)
  else()
    set(${prefix}_NOTE "${title} ${version}, its library is looked for at run time" PARENT_SCOPE)
  endif()
endfunction()

if(NOT TARGET TensorRT::TensorRT)
  tensorrt_find(TensorRT TensorRT TENSORRT_ROOT TensorRT::TensorRT "nvinfer;libnvinfer.so.11;libnvinfer.so.10;libnvinfer.so.8")
endif()
if(NOT TARGET TensorRT::RTX)
  tensorrt_find(TensorRT_RTX TensorRT-RTX TENSORRT_RTX_ROOT TensorRT::RTX "tensorrt_rtx;libtensorrt_rtx.so.1")
endif()
