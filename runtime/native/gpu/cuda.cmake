# The CUDA part of facemesh_core; CMAKE_CUDA_COMPILER works.

# Machine code for the usual devices: desktops 75 86 89 90 120, Orin 87, Thor 110, Xavier 72 if the toolkit knows it.
# PTX of the oldest serves every device in between (A100, B200), PTX of the newest all later ones: the driver compiles
# it at the first use. For one device alone: CUDAARCHS=87 pip install .
function(choose_architectures)
  execute_process(
    COMMAND ${CMAKE_CUDA_COMPILER} --list-gpu-arch
    OUTPUT_VARIABLE known RESULT_VARIABLE result ERROR_QUIET)
  set(chosen "")
  foreach(architecture IN ITEMS 72 75 86 87 89 90 110 120)
    if(result EQUAL 0 AND known MATCHES "compute_${architecture}[^0-9]")
      list(APPEND chosen ${architecture})
    endif()
  endforeach()
  if(chosen) # else it is the compiler's own choice
    list(GET chosen 0 oldest)
    list(GET chosen -1 newest)
    list(TRANSFORM chosen APPEND "-real")
    set(CMAKE_CUDA_ARCHITECTURES ${chosen} ${oldest}-virtual ${newest}-virtual PARENT_SCOPE)
  endif()
endfunction()

if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES AND NOT DEFINED ENV{CUDAARCHS})
  choose_architectures()
endif()
enable_language(CUDA)

# A library of its own, without link-time optimisation, which nvcc's objects take no part in.
add_library(facemesh_cuda STATIC runtime/native/gpu/cuda_graph.cpp runtime/native/gpu/cuda_kernels.cu)
set_target_properties(facemesh_cuda PROPERTIES
  POSITION_INDEPENDENT_CODE ON
  CXX_VISIBILITY_PRESET hidden
  CUDA_VISIBILITY_PRESET hidden
  CXX_EXTENSIONS OFF
  CUDA_EXTENSIONS OFF
  CUDA_STANDARD 17
  CUDA_STANDARD_REQUIRED ON
  CUDA_RUNTIME_LIBRARY Static)
target_compile_features(facemesh_cuda PRIVATE cxx_std_17)
# As many architectures at once as there are cores.
target_compile_options(facemesh_cuda PRIVATE "$<$<COMPILE_LANGUAGE:CUDA>:--threads=0>")
# For the .cpp, which nvcc does not compile.
target_include_directories(facemesh_cuda SYSTEM PRIVATE ${CMAKE_CUDA_TOOLKIT_INCLUDE_DIRECTORIES})

list(JOIN CMAKE_CUDA_ARCHITECTURES " " facemesh_architectures)
target_compile_definitions(facemesh_cuda PUBLIC
  FACEMESH_CUDA
  FACEMESH_CUDA_VERSION="${CMAKE_CUDA_COMPILER_VERSION}"
  FACEMESH_CUDA_ARCHITECTURES="${facemesh_architectures}")
target_link_libraries(facemesh_core PUBLIC facemesh_cuda)
message(STATUS "facemesh_core: with CUDA kernels, compiler ${CMAKE_CUDA_COMPILER} ${CMAKE_CUDA_COMPILER_VERSION}, "
  "architectures ${facemesh_architectures}")
