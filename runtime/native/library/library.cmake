# libfacemesh: the C library of include/facemesh.h, shared (target facemesh) and static (facemesh_static).
include(CMakePackageConfigHelpers)
include(GNUInstallDirs)

list(APPEND CMAKE_MODULE_PATH "${CMAKE_CURRENT_SOURCE_DIR}/runtime/native/cmake")
find_package(ZLIB REQUIRED)
find_package(nlohmann_json 3.2 REQUIRED)

# Backends. A folder that is given counts as ON.
facemesh_choice(FACEMESH_ONNXRUNTIME "ONNX Runtime as a backend")
facemesh_choice(FACEMESH_TENSORRT "TensorRT as a backend")
facemesh_choice(FACEMESH_TENSORRT_RTX "TensorRT-RTX as a backend")
function(facemesh_missing option title root note)
  if(NOT "${${root}}" STREQUAL "")
    message(FATAL_ERROR "${root}=${${root}}: no usable ${title} there: ${note}, or leave it out with -D${option}=OFF")
  elseif(${option} STREQUAL "ON")
    message(FATAL_ERROR "${option}=ON, but ${title} is not found: ${note}")
  endif()
  message(STATUS "facemesh: without ${title}: ${note}")
endfunction()
if(NOT FACEMESH_ONNXRUNTIME STREQUAL "OFF")
  find_package(OnnxRuntime)
endif()
find_package(TensorRT MODULE)

add_library(facemesh_objects OBJECT ${FACEMESH_PICTURE_SOURCES}
  runtime/native/library/api.cpp
  runtime/native/library/checks.cpp
  runtime/native/library/mesher.cpp
  runtime/native/families/coefficients.cpp
  runtime/native/families/face_model.cpp
  runtime/native/families/family.cpp
  runtime/native/families/position_map.cpp
  runtime/native/families/topology.cpp
  runtime/native/models/fields.cpp
  runtime/native/models/files.cpp
  runtime/native/models/manifest.cpp
  runtime/native/models/npz.cpp
  runtime/native/models/sha256.cpp
  runtime/native/models/spec.cpp
  runtime/native/deepstream/parse.cpp
  runtime/native/detection/box_map.cpp
  runtime/native/detection/rows.cpp
  runtime/native/detection/yunet.cpp
  runtime/native/people/api.cpp
  runtime/native/people/appearance.cpp
  runtime/native/people/assignment.cpp
  runtime/native/tracking/follow_crop.cpp
  runtime/native/tracking/motion.cpp
  runtime/native/people/track.cpp
  runtime/native/people/tracker.cpp)
facemesh_compile(facemesh_objects)
target_include_directories(facemesh_objects PRIVATE runtime/native)
target_compile_definitions(facemesh_objects PRIVATE FACEMESH_VERSION="${PROJECT_VERSION}")
target_link_libraries(facemesh_objects PRIVATE ZLIB::ZLIB nlohmann_json::nlohmann_json)
set(facemesh_dependencies ZLIB::ZLIB)
# Of the sources that all backends share, api.cpp alone asks which there are.
function(facemesh_has backend)
  set_property(SOURCE runtime/native/library/api.cpp APPEND PROPERTY COMPILE_DEFINITIONS ${backend})
endfunction()
set(FACEMESH_REQUIRES zlib)
set(FACEMESH_LIBS_PRIVATE "-lstdc++ -lm")
if(OnnxRuntime_FOUND)
  target_sources(facemesh_objects PRIVATE
    runtime/native/backends/onnx_network.cpp
    runtime/native/backends/onnx_session.cpp
    runtime/native/backends/onnx_yunet.cpp)
  facemesh_has(FACEMESH_WITH_ONNXRUNTIME)
  target_link_libraries(facemesh_objects PRIVATE OnnxRuntime::OnnxRuntime)
  list(APPEND facemesh_dependencies OnnxRuntime::OnnxRuntime)
  set(FACEMESH_LIBS_PRIVATE "-lonnxruntime ${FACEMESH_LIBS_PRIVATE}")
elseif(NOT FACEMESH_ONNXRUNTIME STREQUAL "OFF")
  facemesh_missing(FACEMESH_ONNXRUNTIME "ONNX Runtime" ONNXRUNTIME_ROOT "give -DONNXRUNTIME_ROOT=FOLDER of an unpacked \
release, with onnxruntime_c_api.h and libonnxruntime.so")
endif()

# One source for engines, compiled for each library that runs them. Neither is linked.
set(facemesh_parts $<TARGET_OBJECTS:facemesh_objects>)
function(facemesh_engine_backend option title package root found)
  if(${option} STREQUAL "OFF")
    return()
  elseif(NOT TARGET ${found})
    facemesh_missing(${option} ${title} ${root} "${${package}_NOTE}")
    return()
  endif()
  message(STATUS "facemesh: ${${package}_NOTE}")
  string(TOLOWER ${option} part)
  add_library(${part} OBJECT runtime/native/backends/tensorrt_network.cpp)
  facemesh_compile(${part})
  target_include_directories(${part} PRIVATE runtime/native)
  target_link_libraries(${part} PRIVATE nlohmann_json::nlohmann_json ${found})
  if(package STREQUAL "TensorRT_RTX")
    target_compile_definitions(${part} PRIVATE FACEMESH_RTX)
  endif()
  string(REPLACE "FACEMESH_" "FACEMESH_WITH_" has ${option})
  facemesh_has(${has})
  set(facemesh_parts ${facemesh_parts} $<TARGET_OBJECTS:${part}> PARENT_SCOPE)
endfunction()
facemesh_engine_backend(FACEMESH_TENSORRT TensorRT TensorRT TENSORRT_ROOT TensorRT::TensorRT)
facemesh_engine_backend(FACEMESH_TENSORRT_RTX TensorRT-RTX TensorRT_RTX TENSORRT_RTX_ROOT TensorRT::RTX)
if(TARGET facemesh_tensorrt OR TARGET facemesh_tensorrt_rtx)
  target_sources(facemesh_objects PRIVATE runtime/native/driver/device.cpp runtime/native/driver/driver_api.cpp)
  list(APPEND facemesh_dependencies ${CMAKE_DL_LIBS})
  set(FACEMESH_LIBS_PRIVATE "${FACEMESH_LIBS_PRIVATE} -ldl")
endif()

add_library(facemesh SHARED ${facemesh_parts})
add_library(facemesh_static STATIC ${facemesh_parts})
set_target_properties(facemesh_static PROPERTIES OUTPUT_NAME facemesh)
set_target_properties(facemesh PROPERTIES
  VERSION ${PROJECT_VERSION}
  SOVERSION ${PROJECT_VERSION_MAJOR}
  INSTALL_RPATH "$ORIGIN"
  INSTALL_RPATH_USE_LINK_PATH ON)
target_link_libraries(facemesh PRIVATE ${facemesh_dependencies})
target_link_libraries(facemesh_static PRIVATE ${facemesh_dependencies})
foreach(target facemesh facemesh_static)
  target_include_directories(${target} INTERFACE
    $<BUILD_INTERFACE:${CMAKE_CURRENT_SOURCE_DIR}/runtime/native/include>
    $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
  add_library(facemesh::${target} ALIAS ${target})
endforeach()

install(TARGETS facemesh facemesh_static EXPORT facemeshTargets COMPONENT library
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT library
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT library)
install(FILES runtime/native/include/facemesh.h runtime/native/include/facemesh_deepstream.h
  DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT library)
if(OnnxRuntime_BUNDLED)
  foreach(name libonnxruntime.so libonnxruntime.so.1)
    install(FILES "${OnnxRuntime_BUNDLED}" DESTINATION ${CMAKE_INSTALL_LIBDIR} RENAME ${name} COMPONENT library)
  endforeach()
endif()
foreach(asset edge.onnx edge-fp16.onnx edge-int8.onnx)
  list(APPEND facemesh_assets runtime/assets/${asset} runtime/assets/${asset}.json)
endforeach()
install(FILES ${facemesh_assets} runtime/assets/uv_topology.npz runtime/assets/yunet.onnx
  runtime/assets/yunet_box_map.json runtime/assets/face_detection_yunet_2023mar.LICENSE.txt LICENSE THIRD_PARTY.md
  DESTINATION ${CMAKE_INSTALL_DATADIR}/facemesh COMPONENT library)

set(facemesh_cmake ${CMAKE_INSTALL_LIBDIR}/cmake/facemesh)
install(EXPORT facemeshTargets NAMESPACE facemesh:: DESTINATION ${facemesh_cmake} COMPONENT library)
configure_package_config_file(runtime/native/cmake/facemeshConfig.cmake.in
  "${CMAKE_CURRENT_BINARY_DIR}/facemeshConfig.cmake" INSTALL_DESTINATION ${facemesh_cmake}
  PATH_VARS CMAKE_INSTALL_LIBDIR CMAKE_INSTALL_DATADIR)
write_basic_package_version_file("${CMAKE_CURRENT_BINARY_DIR}/facemeshConfigVersion.cmake"
  COMPATIBILITY SameMinorVersion)
install(FILES "${CMAKE_CURRENT_BINARY_DIR}/facemeshConfig.cmake"
  "${CMAKE_CURRENT_BINARY_DIR}/facemeshConfigVersion.cmake"
  DESTINATION ${facemesh_cmake} COMPONENT library)
# The first line, which tells the prefix, is written at install: --prefix does not move an absolute CMAKE_INSTALL_LIBDIR.
foreach(folder INCLUDEDIR DATADIR)
  set(FACEMESH_${folder} "${CMAKE_INSTALL_${folder}}")
  if(NOT IS_ABSOLUTE "${FACEMESH_${folder}}")
    string(PREPEND FACEMESH_${folder} "\${prefix}/")
  endif()
endforeach()
configure_file(runtime/native/cmake/facemesh.pc.in "${CMAKE_CURRENT_BINARY_DIR}/facemesh.pc" @ONLY)
install(CODE "
  get_filename_component(prefix \"\${CMAKE_INSTALL_PREFIX}\" ABSOLUTE)
  get_filename_component(folder \"${CMAKE_INSTALL_LIBDIR}/pkgconfig\" ABSOLUTE BASE_DIR \"\${prefix}\")
  file(RELATIVE_PATH prefix \"\${folder}\" \"\${prefix}\")
  string(REGEX REPLACE \"/$\" \"\" prefix \"\${prefix}\")
  file(READ \"${CMAKE_CURRENT_BINARY_DIR}/facemesh.pc\" text)
  file(WRITE \"\$ENV{DESTDIR}\${folder}/facemesh.pc\" \"prefix=\\\${pcfiledir}/\${prefix}\\n\${text}\")
  list(APPEND CMAKE_INSTALL_MANIFEST_FILES \"\${folder}/facemesh.pc\")"
  COMPONENT library)

# What `python -m benchmarks library` measures; nothing else builds it.
if(EXISTS "${CMAKE_CURRENT_SOURCE_DIR}/benchmarks/library/frames.cpp")
  add_executable(facemesh_frames EXCLUDE_FROM_ALL benchmarks/library/frames.cpp)
  facemesh_compile(facemesh_frames)
  target_link_libraries(facemesh_frames PRIVATE facemesh)
endif()
