// The kernels, found by name in the compiled image; runtime/native/driver/kernel_module.cpp launches them.
#include "coefficients_body.h"
#include "crop_body.h"
#include "decode_body.h"
#include "face_rows_body.h"
#include "landmark_body.h"

using namespace facemesh;

constexpr int THREADS = THREADS_OF_A_BLOCK;

// The triples of a block's threads, stored one after another: neighbouring threads write neighbouring addresses.
// `total` triples in all.
template <typename Store> __device__ void store_staged(const Triple &triple, int total, Store store) {
    __shared__ float staged[3 * THREADS];
    for (int i = 0; i < 3; ++i) staged[3 * threadIdx.x + i] = triple.values[i];
    __syncthreads();
    const int first = 3 * THREADS * blockIdx.x;
    for (int i = threadIdx.x; i < 3 * THREADS && first + i < 3 * total; i += THREADS) store(first + i, staged[i]);
}

// Marks a block of a face's points, one a thread, if one of them is not finite. All threads of the block take part.
__device__ void mark_block(uint8_t *not_finite, int face, const Triple &point) {
    const int found = __syncthreads_or(!is_finite(point));
    if (threadIdx.x == 0) not_finite[size_t(gridDim.x) * face + blockIdx.x] = found ? 1 : 0;
}

// grid: (pixels / THREADS, faces)
extern "C" __global__ void __launch_bounds__(THREADS) facemesh_crop(const CropTask task) {
    __shared__ CropTransform transform;
    __shared__ PlanePixel drawn[DRAWN_POINTS];
    const FrameView frame = frame_of(task);
    const int face = blockIdx.y, pixels = task.width * task.height, pixel = THREADS * blockIdx.x + threadIdx.x;
    const int v = pixel / task.width, u = pixel - v * task.width;
    if (threadIdx.x == 0) transform = crop_transform(task.matrices + 6 * face, task.width, task.height);
    if (task.landmarks != nullptr) drawn_pixels(task, face, threadIdx.x, THREADS, drawn);
    __syncthreads();
    Triple colour = {};
    if (pixel < pixels) colour = crop_pixel(task, frame, transform, u, v);
    const size_t offset = (task.landmarks == nullptr ? 3 : 4) * size_t(pixels) * face;
    if (task.channels_last) {
        store_staged(colour, pixels,
                     [&](int index, float value) { store_value(task.out, offset + index, value, task.half); });
    } else if (pixel < pixels) {
        for (int channel = 0; channel < 3; ++channel)
            store_value(task.out, offset + size_t(pixels) * channel + pixel, colour.values[channel], task.half);
        if (task.landmarks != nullptr) {
            const float value = channel_value(drawn, u, v);
            store_value(task.out, offset + 3 * size_t(pixels) + pixel, value, task.half);
        }
    }
}

// grid: (count / THREADS, faces)
extern "C" __global__ void __launch_bounds__(THREADS) facemesh_decode(const DecodeTask task) {
    __shared__ DecodeTransform transform;
    const int face = blockIdx.y, i = THREADS * blockIdx.x + threadIdx.x;
    if (threadIdx.x == 0) transform = decode_transform(task.matrices + 6 * face, task.scale);
    __syncthreads();
    Triple point = {};
    if (i < task.count) point = decode_point(task, transform, face, i);
    mark_block(task.not_finite, face, point);
    float *points = task.out + 3 * size_t(task.count) * face;
    store_staged(point, task.count, [&](int index, float value) { points[index] = value; });
}

// grid: (count / THREADS, faces / FACES_AT_A_TIME)
extern "C" __global__ void __launch_bounds__(THREADS) facemesh_decode_coefficients(const CoefficientTask task) {
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
        const Triple placed = place_point(transforms[face], points[face]);
        mark_block(task.not_finite, first + face, placed);
        float *out = task.out + 3 * size_t(task.count) * (first + face);
        store_staged(placed, task.count, [&](int index, float value) { out[index] = value; });
        __syncthreads(); // before the next face's points take this one's place
    }
}

// grid: (places / THREADS)
extern "C" __global__ void __launch_bounds__(THREADS) facemesh_face_rows(const FaceRowTask task) {
    const int place = THREADS * blockIdx.x + threadIdx.x;
    if (place < place_count(task)) collect_face(task, place);
}
