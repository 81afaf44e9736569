#include "driver_api.h"

#include <algorithm>
#include <dlfcn.h>
#include <iterator>

namespace facemesh::cuda {
namespace {

constexpr const char *LIBRARY = "libcuda.so.1";

DriverApi load() {
    Handle library = dlopen(LIBRARY, RTLD_NOW);
    if (library == nullptr) throw Failure(std::string("loading ") + LIBRARY, "", "install the NVIDIA driver");
    DriverApi api = {};
    const auto find = [library](const char *symbol, auto &function) {
        Handle found = dlsym(library, symbol);
        if (found == nullptr) throw Failure(symbol, "CUDA_ERROR_NOT_FOUND", "");
        function = reinterpret_cast<std::decay_t<decltype(function)>>(found);
    };
#define FACEMESH_FIND(name, symbol, parameters) find(symbol, api.name);
    FACEMESH_DRIVER_FUNCTIONS(FACEMESH_FIND)
#undef FACEMESH_FIND
    return api;
}

// After one of these every later call reports it again, releases too.
constexpr const char *LOST[] = {
    "CUDA_ERROR_ASSERT",
    "CUDA_ERROR_CONTAINED",
    "CUDA_ERROR_CONTEXT_IS_DESTROYED",
    "CUDA_ERROR_DEINITIALIZED",
    "CUDA_ERROR_DEVICE_UNAVAILABLE",
    "CUDA_ERROR_ECC_UNCORRECTABLE",
    "CUDA_ERROR_EXTERNAL_DEVICE",
    "CUDA_ERROR_HARDWARE_STACK_ERROR",
    "CUDA_ERROR_ILLEGAL_ADDRESS",
    "CUDA_ERROR_ILLEGAL_INSTRUCTION",
    "CUDA_ERROR_INVALID_ADDRESS_SPACE",
    "CUDA_ERROR_INVALID_PC",
    "CUDA_ERROR_LAUNCH_FAILED",
    "CUDA_ERROR_LAUNCH_TIMEOUT",
    "CUDA_ERROR_MISALIGNED_ADDRESS",
    "CUDA_ERROR_UNKNOWN",
};

std::string remedy_of(const Failure &failure) {
    const std::string &status = failure.status;
    if (is_lost(failure)) return "the device is lost to this process; start it again";
    if (status == "CUDA_ERROR_OUT_OF_MEMORY")
        return "the GPU's memory is full (a Jetson shares it with the system); close other programs, or lower the "
               "batch";
    if (status == "CUDA_ERROR_INVALID_CONTEXT" || status == "CUDA_ERROR_NOT_INITIALIZED")
        return "CUDA was used after a fork; open the model in the process that uses it";
    if (status == "CUDA_ERROR_NOT_FOUND" || status == "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH")
        return "the NVIDIA driver does not fit this CUDA software; update the driver (on a Jetson JetPack)";
    return failure.explanation.empty() ? "check nvidia-smi" : failure.explanation + "; check nvidia-smi";
}

} // namespace

bool is_lost(const Failure &failure) {
    return std::find(std::begin(LOST), std::end(LOST), failure.status) != std::end(LOST);
}

std::string line_of(const Failure &failure) {
    return failure.call + " failed" + (failure.status.empty() ? "" : " with " + failure.status) + ": " +
           remedy_of(failure);
}

const DriverApi &driver() {
    static const DriverApi api = load(); // a failed load is tried again by the next call
    return api;
}

void raise(Status status, const char *call) {
    const char *name = nullptr, *text = nullptr;
    driver().cuGetErrorName(status, &name);
    driver().cuGetErrorString(status, &text);
    throw Failure(call, name == nullptr ? "status " + std::to_string(status) : name, text == nullptr ? "" : text);
}

} // namespace facemesh::cuda
