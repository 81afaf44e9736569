// The work of the GPU's kernels in loops on the host: the same arithmetic on host memory, done on return. The caller
// has checked sizes and addresses.
#pragma once

#include "kernel_bodies.h"

namespace facemesh::host {

void crop(const CropTask &task);
void decode(const DecodeTask &task);
void decode_coefficients(const CoefficientTask &task);
void face_rows(const FaceRowTask &task);

} // namespace facemesh::host
