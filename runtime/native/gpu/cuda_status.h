// CUDA statuses as exceptions.
#pragma once

#include <cuda_runtime_api.h>

#include <stdexcept>
#include <string>

namespace facemesh::cuda {

// Throws std::runtime_error("<call>: <status name>: <what it means>") unless the status is cudaSuccess.
inline void check(cudaError_t status, const char *call) {
    if (status == cudaSuccess) return;
    cudaGetLastError(); // the runtime would report it again from the next call
    std::string message = std::string(call) + ": " + cudaGetErrorName(status) + ": " + cudaGetErrorString(status);
    int driver = 0;
    if (status == cudaErrorInsufficientDriver && cudaDriverGetVersion(&driver) == cudaSuccess) {
        const auto version = [](int value) {
            return std::to_string(value / 1000) + "." + std::to_string(value % 1000 / 10);
        };
        message += driver == 0 ? " (no NVIDIA driver is installed)"
                               : " (the driver is for CUDA " + version(driver) + ", this module was built with CUDA " +
                                     version(CUDART_VERSION) +
                                     ": update the driver, or build with a toolkit not newer than it)";
    }
    throw std::runtime_error(message);
}

} // namespace facemesh::cuda
