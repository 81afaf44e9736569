#include "driver_api.h"

#include <dlfcn.h>

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

} // namespace

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
