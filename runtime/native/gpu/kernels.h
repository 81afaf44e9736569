// Crop and decode of the GPU road: on the device, and the same arithmetic on the host. The caller has checked sizes and addresses.
#pragma once

#include <cstdint>

#include "kernel_bodies.h"

namespace facemesh {

namespace host { // all pointers are host memory; done on return, the stream is not used
void crop(const CropTask &task, uintptr_t stream);
void decode(const DecodeTask &task, uintptr_t stream);
} // namespace host

#ifdef FACEMESH_CUDA
namespace cuda { // device memory; enqueued on the stream; failures throw std::runtime_error with the name of the CUDA status
void crop(const CropTask &task, uintptr_t stream);
void decode(const DecodeTask &task, uintptr_t stream);

// Throws where the current device cannot run these kernels; loads them otherwise, so that no first launch has to.
void check_device();

void begin_capture(uintptr_t stream);

// What was enqueued on a stream between begin_capture and this.
class Graph {
  public:
    explicit Graph(uintptr_t stream); // ends the capture, also where it throws
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
