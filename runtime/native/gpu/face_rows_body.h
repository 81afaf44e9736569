// Faces of YuNet's network: what it says at one place. As runtime/detection/yunet_rows.py, whose numbers these are.
#pragma once

#include "kernel_bodies.h"

namespace facemesh {

inline FACEMESH_HD int level_size(const FaceRowTask &task, int stride) {
    return (task.width / stride) * (task.height / stride);
}

inline FACEMESH_HD int place_count(const FaceRowTask &task) {
    int count = 0;
    for (int level = 0; level < YUNET_LEVELS; ++level) count += level_size(task, FIRST_STRIDE << level);
    return count;
}

inline FACEMESH_HD int next_row(int32_t *count) {
#ifdef __CUDA_ARCH__
    return atomicAdd(count, 1);
#else
    return (*count)++;
#endif
}

// The few places that pass are computed in double precision, as the host does, so that both give the same faces.
inline FACEMESH_HD void collect_face(const FaceRowTask &task, int place) {
    int stride = FIRST_STRIDE, at = place;
    const void *values = task.levels[0];
#ifdef __CUDA_ARCH__
#pragma unroll // levels[level] is a parameter, no memory, if `level` is known
#endif
    for (int level = 1; level < YUNET_LEVELS; ++level) {
        const int size = level_size(task, stride);
        if (at < size) break;
        at -= size;
        stride *= 2;
        values = task.levels[level];
    }
    const int columns = task.width / stride, x = at % columns, y = at / columns;
    const size_t plane = size_t(level_size(task, stride));
    const float face = load_value(values, at, task.half), object = load_value(values, plane + at, task.half);
    if (!(face >= task.least_logit && object >= task.least_logit)) return;
    FaceRow row;
    row.score = float(sqrt(1 / ((1 + exp(-double(face))) * (1 + exp(-double(object))))));
    if (!(row.score >= task.threshold)) return;
    const auto value = [&](int channel) { return double(load_value(values, plane * channel + at, task.half)); };
    const double width = exp(value(4)) * stride, height = exp(value(5)) * stride;
    row.box[0] = float((value(2) + x) * stride - width / 2);
    row.box[1] = float((value(3) + y) * stride - height / 2);
    row.box[2] = float(width);
    row.box[3] = float(height);
    for (int i = 0; i < 10; ++i) row.points[i] = float((value(6 + i) + (i % 2 ? y : x)) * stride);
    row.place = place;
    const int number = next_row(task.count);
    if (number < task.most) task.rows[number] = row;
}

} // namespace facemesh
