// Crop and decode for the GPU: on the device, and the same arithmetic on the host. The caller has checked sizes and
// addresses.
#pragma once

#include <cstdint>

#include "kernel_bodies.h"

namespace facemesh {

// All pointers are host memory; the work is done on return, the stream is not used.
namespace host {
void crop(const CropTask &task, uintptr_t stream);
void decode(const DecodeTask &task, uintptr_t stream);
void decode_coefficients(const CoefficientTask &task, uintptr_t stream);
} // namespace host

#ifdef FACEMESH_CUDA
// All pointers are device memory; the work is queued on the stream. Failures throw std::runtime_error with the name of
// the CUDA status.
namespace cuda {

void crop(const CropTask &task, uintptr_t stream);
void decode(const DecodeTask &task, uintptr_t stream);
void decode_coefficients(const CoefficientTask &task, uintptr_t stream);

// Loads the kernels, so that no first launch has to. Throws if the current device cannot run them.
void check_device();

void begin_capture(uintptr_t stream);

// The work queued on a stream between begin_capture and the construction.
class Graph {
  public:
    explicit Graph(uintptr_t stream); // ends the capture, even if it throws
    ~Graph() { close(); }
    Graph(const Graph &) = delete;
    Graph &operator=(const Graph &) = delete;
    void launch(uintptr_t stream) const;
    void close() noexcept; // may be called twice

  private:
    void *executable_ = nullptr;
};
} // namespace cuda
#endif

} // namespace facemesh
