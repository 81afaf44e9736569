// The functions of the CUDA driver that the runtime calls. libcuda.so.1 is looked for at the first call, and nothing is
// linked or included: the module is built and loaded without CUDA.
#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <string>

namespace facemesh::cuda {

using Status = int; // CUresult
constexpr Status SUCCESS = 0, NOT_READY = 600, PRIMARY_CONTEXT_ACTIVE = 708;

// https://docs.nvidia.com/cuda/cuda-driver-api: flags, by their names there.
constexpr unsigned CTX_SCHED_SPIN = 1, STREAM_NON_BLOCKING = 1, EVENT_BLOCKING_SYNC = 1, EVENT_DISABLE_TIMING = 2,
                   MEMHOSTALLOC_DEVICEMAP = 2, STREAM_CAPTURE_MODE_THREAD_LOCAL = 1;
constexpr int ATTRIBUTE_MULTIPROCESSORS = 16, ATTRIBUTE_INTEGRATED = 18, ATTRIBUTE_CAPABILITY_MAJOR = 75,
              ATTRIBUTE_CAPABILITY_MINOR = 76;

// Handles are pointers, addresses of device memory are numbers.
using Handle = void *;
using Address = unsigned long long;

// X(name here, name in the library, parameters)
#define FACEMESH_DRIVER_FUNCTIONS(X)                                                                                   \
    X(cuInit, "cuInit", (unsigned))                                                                                    \
    X(cuDeviceGet, "cuDeviceGet", (int *, int))                                                                        \
    X(cuDeviceGetName, "cuDeviceGetName", (char *, int, int))                                                          \
    X(cuDeviceGetAttribute, "cuDeviceGetAttribute", (int *, int, int))                                                 \
    X(cuDevicePrimaryCtxSetFlags, "cuDevicePrimaryCtxSetFlags_v2", (int, unsigned))                                    \
    X(cuDevicePrimaryCtxRetain, "cuDevicePrimaryCtxRetain", (Handle *, int))                                           \
    X(cuDevicePrimaryCtxRelease, "cuDevicePrimaryCtxRelease_v2", (int))                                                \
    X(cuCtxPushCurrent, "cuCtxPushCurrent_v2", (Handle))                                                               \
    X(cuCtxPopCurrent, "cuCtxPopCurrent_v2", (Handle *))                                                               \
    X(cuCtxSetCurrent, "cuCtxSetCurrent", (Handle))                                                                    \
    X(cuStreamCreate, "cuStreamCreate", (Handle *, unsigned))                                                          \
    X(cuStreamDestroy, "cuStreamDestroy_v2", (Handle))                                                                 \
    X(cuStreamSynchronize, "cuStreamSynchronize", (Handle))                                                            \
    X(cuStreamWaitEvent, "cuStreamWaitEvent", (Handle, Handle, unsigned))                                              \
    X(cuEventCreate, "cuEventCreate", (Handle *, unsigned))                                                            \
    X(cuEventDestroy, "cuEventDestroy_v2", (Handle))                                                                   \
    X(cuEventRecord, "cuEventRecord", (Handle, Handle))                                                                \
    X(cuEventSynchronize, "cuEventSynchronize", (Handle))                                                              \
    X(cuEventQuery, "cuEventQuery", (Handle))                                                                          \
    X(cuEventElapsedTime, "cuEventElapsedTime", (float *, Handle, Handle))                                             \
    X(cuMemAlloc, "cuMemAlloc_v2", (Address *, size_t))                                                                \
    X(cuMemFree, "cuMemFree_v2", (Address))                                                                            \
    X(cuMemHostAlloc, "cuMemHostAlloc", (Handle *, size_t, unsigned))                                                  \
    X(cuMemFreeHost, "cuMemFreeHost", (Handle))                                                                        \
    X(cuMemHostGetDevicePointer, "cuMemHostGetDevicePointer_v2", (Address *, Handle, unsigned))                        \
    X(cuMemcpyHtoDAsync, "cuMemcpyHtoDAsync_v2", (Address, const void *, size_t, Handle))                              \
    X(cuMemcpyDtoHAsync, "cuMemcpyDtoHAsync_v2", (Handle, Address, size_t, Handle))                                    \
    X(cuMemGetInfo, "cuMemGetInfo_v2", (size_t *, size_t *))                                                           \
    X(cuModuleLoadData, "cuModuleLoadData", (Handle *, const void *))                                                  \
    X(cuModuleGetFunction, "cuModuleGetFunction", (Handle *, Handle, const char *))                                    \
    X(cuModuleUnload, "cuModuleUnload", (Handle))                                                                      \
    X(cuLaunchKernel, "cuLaunchKernel",                                                                                \
      (Handle, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, Handle, void **, void **))        \
    X(cuStreamBeginCapture, "cuStreamBeginCapture_v2", (Handle, int))                                                  \
    X(cuStreamEndCapture, "cuStreamEndCapture", (Handle, Handle *))                                                    \
    X(cuGraphInstantiate, "cuGraphInstantiateWithFlags", (Handle *, Handle, unsigned long long))                       \
    X(cuGraphUpload, "cuGraphUpload", (Handle, Handle))                                                                \
    X(cuGraphLaunch, "cuGraphLaunch", (Handle, Handle))                                                                \
    X(cuGraphExecDestroy, "cuGraphExecDestroy", (Handle))                                                              \
    X(cuGraphDestroy, "cuGraphDestroy", (Handle))                                                                      \
    X(cuGetErrorName, "cuGetErrorName", (Status, const char **))                                                       \
    X(cuGetErrorString, "cuGetErrorString", (Status, const char **))

struct DriverApi {
#define FACEMESH_MEMBER(name, symbol, parameters) Status(*name) parameters;
    FACEMESH_DRIVER_FUNCTIONS(FACEMESH_MEMBER)
#undef FACEMESH_MEMBER
};

// A failed call, as runtime.cuda.errors.CudaError tells it.
struct Failure : std::exception {
    Failure(std::string call_, std::string status_, std::string explanation_)
        : call(std::move(call_)), status(std::move(status_)), explanation(std::move(explanation_)) {}
    const char *what() const noexcept override { return call.c_str(); }

    std::string call, status, explanation; // status: the driver's name of it, "" for a failure without one
};

// One line on a failure, with the remedy that runtime.cuda.errors has for its status.
std::string line_of(const Failure &failure);

// True if the device cannot be used before the process is started again.
bool is_lost(const Failure &failure);

// Throws Failure without a driver, or with one that lacks a function.
const DriverApi &driver();

[[noreturn]] void raise(Status status, const char *call);

inline void check(Status status, const char *call) {
    if (status != SUCCESS) raise(status, call);
}

} // namespace facemesh::cuda

// A call of the driver that must succeed.
#define FACEMESH_CALL(name, ...) ::facemesh::cuda::check(::facemesh::cuda::driver().name(__VA_ARGS__), #name)
