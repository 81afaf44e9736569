#include <cuda_runtime.h>

#include "coefficients_body.h"
#include "crop_body.h"
#include "cuda_status.h"
#include "decode_body.h"
#include "kernels.h"
#include "landmark_body.h"

namespace facemesh::cuda {
namespace {

constexpr int THREADS = 256;

// The triples of a block's threads, stored one after another: neighbouring threads write neighbouring addresses.
// `total` triples in all.
template <typename Store> __device__ void store_staged(const Triple &triple, int total, Store store) {
    __shared__ float staged[3 * THREADS];
    for (int i = 0; i < 3; ++i) staged[3 * threadIdx.x + i] = triple.values[i];
    __syncthreads();
    const int first = 3 * THREADS * blockIdx.x;
    for (int i = threadIdx.x; i < 3 * THREADS && first + i < 3 * total; i += THREADS) store(first + i, staged[i]);
}

// grid: (pixels / THREADS, faces)
__global__ void __launch_bounds__(THREADS) crop_kernel(const CropTask task) {
    __shared__ CropTransform transform;
    __shared__ PlanePixel drawn[DRAWN_POINTS];
    const int face = blockIdx.y, pixels = task.size * task.size, pixel = THREADS * blockIdx.x + threadIdx.x;
    if (threadIdx.x == 0) transform = crop_transform(task.matrices + 6 * face, task.size);
    if (task.landmarks != nullptr) drawn_pixels(task, face, threadIdx.x, THREADS, drawn);
    __syncthreads();
    Triple colour = {};
    if (pixel < pixels) colour = crop_pixel(task, transform, pixel % task.size, pixel / task.size);
    const size_t offset = (task.landmarks == nullptr ? 3 : 4) * size_t(pixels) * face;
    if (task.channels_last) {
        store_staged(colour, pixels,
                     [&](int index, float value) { store_value(task.out, offset + index, value, task.half); });
    } else if (pixel < pixels) {
        for (int channel = 0; channel < 3; ++channel)
            store_value(task.out, offset + size_t(pixels) * channel + pixel, colour.values[channel], task.half);
        if (task.landmarks != nullptr) {
            const float value = channel_value(drawn, pixel % task.size, pixel / task.size);
            store_value(task.out, offset + 3 * size_t(pixels) + pixel, value, task.half);
        }
    }
}

// grid: (count / THREADS, faces)
__global__ void __launch_bounds__(THREADS) decode_kernel(const DecodeTask task) {
    __shared__ DecodeTransform transform;
    const int face = blockIdx.y, i = THREADS * blockIdx.x + threadIdx.x;
    if (threadIdx.x == 0) transform = decode_transform(task.matrices + 6 * face, task.scale);
    __syncthreads();
    Triple point = {};
    if (i < task.count) point = decode_point(task, transform, face, i);
    float *points = task.out + 3 * size_t(task.count) * face;
    store_staged(point, task.count, [&](int index, float value) { points[index] = value; });
}

// grid: (count / THREADS, faces / FACES_AT_A_TIME)
__global__ void __launch_bounds__(THREADS) coefficients_kernel(const CoefficientTask task) {
    __shared__ CoefficientTransform transforms[FACES_AT_A_TIME];
    __shared__ float coefficients[FACES_AT_A_TIME * MAX_COEFFICIENTS];
    const int first = FACES_AT_A_TIME * blockIdx.y, i = THREADS * blockIdx.x + threadIdx.x;
    const int faces = min(FACES_AT_A_TIME, task.faces - first);
    if (int(threadIdx.x) < faces) transforms[threadIdx.x] = coefficient_transform(task, first + threadIdx.x);
    for (int place = threadIdx.x; place < FACES_AT_A_TIME * task.coefficient_count; place += THREADS) {
        const int face = place / task.coefficient_count, k = place % task.coefficient_count;
        coefficients[place] = face < faces ? whitened_number(task, first + face, task.pose_count + k) : 0;
    }
    __syncthreads();
    Triple points[FACES_AT_A_TIME] = {};
    if (i < task.count) model_points(task, coefficients, i, points);
#pragma unroll // so that the points stay in registers
    for (int face = 0; face < FACES_AT_A_TIME; ++face) {
        if (face >= faces) break;
        float *out = task.out + 3 * size_t(task.count) * (first + face);
        store_staged(place_point(transforms[face], points[face]), task.count,
                     [&](int index, float value) { out[index] = value; });
        __syncthreads(); // before the next face's points take this one's place
    }
}

template <typename Task>
void launch(void (*kernel)(Task), const Task &task, int threads, int rows, uintptr_t stream, const char *name) {
    void *arguments[] = {const_cast<Task *>(&task)};
    const dim3 grid(unsigned(threads + THREADS - 1) / THREADS, unsigned(rows));
    const void *function = reinterpret_cast<const void *>(kernel);
    const cudaStream_t queue = reinterpret_cast<cudaStream_t>(stream);
    check(cudaLaunchKernel(function, grid, dim3(THREADS), arguments, 0, queue), name);
}

} // namespace

void crop(const CropTask &task, uintptr_t stream) {
    launch(crop_kernel, task, task.size * task.size, task.faces, stream, "crop");
}

void decode(const DecodeTask &task, uintptr_t stream) {
    launch(decode_kernel, task, task.count, task.faces, stream, "decode");
}

void decode_coefficients(const CoefficientTask &task, uintptr_t stream) {
    const int rows = (task.faces + FACES_AT_A_TIME - 1) / FACES_AT_A_TIME;
    launch(coefficients_kernel, task, task.count, rows, stream, "decode_coefficients");
}

void check_device() {
    const void *kernels[] = {reinterpret_cast<const void *>(&crop_kernel),
                             reinterpret_cast<const void *>(&decode_kernel),
                             reinterpret_cast<const void *>(&coefficients_kernel)};
    for (const void *kernel : kernels) {
        cudaFuncAttributes attributes;
        check(cudaFuncGetAttributes(&attributes, kernel), "check_device");
    }
}

} // namespace facemesh::cuda
