// A stand-in for the header of CUDA's runtime: the one type that TensorRT's header takes from it.
#pragma once

typedef struct CUstream_st *cudaStream_t;
