# The kernels as machine code; CMAKE_CUDA_COMPILER works.

# Machine code for the usual devices as far as the toolkit knows them: 75 86 89 90 120 for cards, 87 and 110 for Orin
# and Thor; on a Jetson those two alone. PTX of the oldest serves every device in between (A100, B200), PTX of the newest
# all later ones: the driver compiles it at the first use. For one device alone: CUDAARCHS=87 pip install .
function(choose_architectures)
  execute_process(
    COMMAND ${CMAKE_CUDA_COMPILER} --list-gpu-arch
    OUTPUT_VARIABLE known RESULT_VARIABLE result ERROR_QUIET)
  set(chosen "")
  set(usual 75 86 87 89 90 110 120)
  if(CMAKE_SYSTEM_VERSION MATCHES "tegra")
    set(usual 87 110)
  endif()
  foreach(architecture IN LISTS usual)
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

# Machine code and PTX in one file beside the module, found there by name: the module itself is the same without CUDA.
set(facemesh_options -std=c++17 --threads=0 "-I${PROJECT_SOURCE_DIR}/runtime/native")
if(CMAKE_CUDA_HOST_COMPILER)
  list(APPEND facemesh_options "-ccbin=${CMAKE_CUDA_HOST_COMPILER}")
endif()
foreach(architecture IN LISTS CMAKE_CUDA_ARCHITECTURES)
  if(architecture MATCHES "^([0-9]+[a-z]?)(-real|-virtual)?$")
    set(number ${CMAKE_MATCH_1})
    if(NOT CMAKE_MATCH_2 STREQUAL "-virtual")
      list(APPEND facemesh_options "-gencode=arch=compute_${number},code=sm_${number}")
    endif()
    if(NOT CMAKE_MATCH_2 STREQUAL "-real")
      list(APPEND facemesh_options "-gencode=arch=compute_${number},code=compute_${number}")
    endif()
  else() # native, all-major
    list(APPEND facemesh_options "-arch=${architecture}")
  endif()
endforeach()
set(facemesh_fatbin "${PROJECT_BINARY_DIR}/kernels.fatbin")
file(GLOB facemesh_bodies CONFIGURE_DEPENDS runtime/native/gpu/*.h)
add_custom_command(
  OUTPUT "${facemesh_fatbin}"
  COMMAND ${CMAKE_CUDA_COMPILER} ${facemesh_options} -fatbin -o "${facemesh_fatbin}"
          "${PROJECT_SOURCE_DIR}/runtime/native/gpu/kernels.cu"
  DEPENDS runtime/native/gpu/kernels.cu ${facemesh_bodies}
  VERBATIM)
add_custom_target(facemesh_kernels ALL DEPENDS "${facemesh_fatbin}")
if(FACEMESH_PYTHON)
  install(FILES "${facemesh_fatbin}" DESTINATION runtime)
endif()

list(JOIN CMAKE_CUDA_ARCHITECTURES " " facemesh_architectures)
target_compile_definitions(facemesh_core PUBLIC
  FACEMESH_CUDA_VERSION="${CMAKE_CUDA_COMPILER_VERSION}"
  FACEMESH_CUDA_ARCHITECTURES="${facemesh_architectures}")
message(STATUS "facemesh_core: CUDA kernels as machine code, compiler ${CMAKE_CUDA_COMPILER} "
  "${CMAKE_CUDA_COMPILER_VERSION}, architectures ${facemesh_architectures}")
