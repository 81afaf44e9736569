#include "crop_body.h"
#include "decode_body.h"
#include "kernels.h"

namespace facemesh::host {

void crop(const CropTask &task, uintptr_t) {
    const size_t pixels = size_t(task.size) * task.size;
    for (int face = 0; face < task.faces; ++face) {
        const CropTransform transform = crop_transform(task.matrices + 6 * face, task.size);
        for (size_t pixel = 0; pixel < pixels; ++pixel) {
            const Triple colour = crop_pixel(task, transform, int(pixel % task.size), int(pixel / task.size));
            for (int channel = 0; channel < 3; ++channel) {
                const size_t index = task.channels_last ? 3 * pixel + channel : pixels * channel + pixel;
                store_value(task.out, 3 * pixels * face + index, colour.values[channel], task.half);
            }
        }
    }
}

void decode(const DecodeTask &task, uintptr_t) {
    for (int face = 0; face < task.faces; ++face) {
        const DecodeTransform transform = decode_transform(task.matrices + 6 * face, task.scale);
        float *points = task.out + 3 * size_t(task.count) * face;
        for (int i = 0; i < task.count; ++i) {
            const Triple point = decode_point(task, transform, face, i);
            for (int axis = 0; axis < 3; ++axis) points[3 * size_t(i) + axis] = point.values[axis];
        }
    }
}

} // namespace facemesh::host
