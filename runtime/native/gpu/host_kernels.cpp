#include "host_kernels.h"

#include <algorithm>
#include <vector>

#include "coefficients_body.h"
#include "crop_body.h"
#include "decode_body.h"
#include "face_rows_body.h"
#include "landmark_body.h"

namespace facemesh::host {

namespace {

// What a GPU's block does in one go: clear the mark at its first point, set it at one that is not finite.
void mark_point(uint8_t *not_finite, int face, int count, int i, const Triple &point) {
    uint8_t &mark = not_finite[size_t(block_count(count)) * face + i / THREADS_OF_A_BLOCK];
    if (i % THREADS_OF_A_BLOCK == 0) mark = 0;
    if (!is_finite(point)) mark = 1;
}

} // namespace

void crop(const CropTask &task) {
    const FrameView frame = frame_of(task);
    const size_t pixels = size_t(task.width) * task.height, planes = task.landmarks == nullptr ? 3 : 4;
    for (int face = 0; face < task.faces; ++face) {
        const CropTransform transform = crop_transform(task.matrices + 6 * face, task.width, task.height);
        PlanePixel drawn[DRAWN_POINTS];
        if (task.landmarks != nullptr) drawn_pixels(task, face, 0, 1, drawn);
        for (size_t pixel = 0; pixel < pixels; ++pixel) {
            const int u = int(pixel % task.width), v = int(pixel / task.width);
            const Triple colour = crop_pixel(task, frame, transform, u, v);
            for (int channel = 0; channel < 3; ++channel) {
                const size_t index = task.channels_last ? 3 * pixel + channel : pixels * channel + pixel;
                store_value(task.out, planes * pixels * face + index, colour.values[channel], task.half);
            }
            if (task.landmarks != nullptr) {
                const float value = channel_value(drawn, u, v);
                store_value(task.out, planes * pixels * face + 3 * pixels + pixel, value, task.half);
            }
        }
    }
}

void decode(const DecodeTask &task) {
    for (int face = 0; face < task.faces; ++face) {
        const DecodeTransform transform = decode_transform(task.matrices + 6 * face, task.scale);
        float *points = task.out + 3 * size_t(task.count) * face;
        for (int i = 0; i < task.count; ++i) {
            const Triple point = decode_point(task, transform, face, i);
            mark_point(task.not_finite, face, task.count, i, point);
            for (int axis = 0; axis < 3; ++axis) points[3 * size_t(i) + axis] = point.values[axis];
        }
    }
}

void decode_coefficients(const CoefficientTask &task) {
    std::vector<float> coefficients(FACES_AT_A_TIME * task.coefficient_count);
    for (int first = 0; first < task.faces; first += FACES_AT_A_TIME) {
        const int faces = std::min(FACES_AT_A_TIME, task.faces - first);
        CoefficientTransform transforms[FACES_AT_A_TIME];
        std::fill(coefficients.begin(), coefficients.end(), 0.0f);
        for (int face = 0; face < faces; ++face) {
            transforms[face] = coefficient_transform(task, first + face);
            for (int k = 0; k < task.coefficient_count; ++k)
                coefficients[face * task.coefficient_count + k] =
                    whitened_number(task, first + face, task.pose_count + k);
        }
        for (int i = 0; i < task.count; ++i) {
            Triple points[FACES_AT_A_TIME];
            model_points(task, coefficients.data(), i, points);
            for (int face = 0; face < faces; ++face) {
                const Triple placed = place_point(transforms[face], points[face]);
                mark_point(task.not_finite, first + face, task.count, i, placed);
                float *out = task.out + 3 * (size_t(first + face) * task.count + i);
                for (int axis = 0; axis < 3; ++axis) out[axis] = placed.values[axis];
            }
        }
    }
}

void face_rows(const FaceRowTask &task) {
    for (int place = 0; place < place_count(task); ++place) collect_face(task, place);
}

} // namespace facemesh::host
