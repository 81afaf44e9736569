// The kernels of gpu/kernels.cu on the current device, out of machine code or PTX.
#pragma once

#include <string>
#include <vector>

#include "driver_api.h"
#include "gpu/kernel_bodies.h"

namespace facemesh::cuda {

// All addresses in tasks are device memory; the work is queued on the stream. Failures throw Failure.
class KernelModule {
  public:
    // Takes the first image that the device and its driver can use; throws what the last one failed with.
    explicit KernelModule(const std::vector<std::string> &images);
    void crop(const CropTask &task, uintptr_t stream) const;
    void decode(const DecodeTask &task, uintptr_t stream) const;
    void decode_coefficients(const CoefficientTask &task, uintptr_t stream) const;
    void face_rows(const FaceRowTask &task, uintptr_t stream) const;
    void close();

  private:
    Handle find(const char *kernel) const;

    Handle module_ = nullptr, crop_ = nullptr, decode_ = nullptr, decode_coefficients_ = nullptr,
           face_rows_ = nullptr;
};

} // namespace facemesh::cuda
