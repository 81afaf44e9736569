// Points of a face model that coefficients move.
#pragma once

#include "kernel_bodies.h"

namespace facemesh {

// Model units -> frame px: rows of (x, y, z, 1).
struct CoefficientTransform {
    float rows[3][4];
};

inline FACEMESH_HD float whitened_number(const CoefficientTask &task, int face, int number) {
    const int count = task.pose_count + task.coefficient_count;
    const float output = load_value(task.output, size_t(face) * count + number, task.half);
    return output * task.constants[count + number] + task.constants[number];
}

inline FACEMESH_HD CoefficientTransform coefficient_transform(const CoefficientTask &task, int face) {
    const int count = task.pose_count + task.coefficient_count;
    const float *fixed_pose = task.constants + 2 * count, *origin = fixed_pose + 12, *sphere = origin + 2;
    float pose[12];
    for (int i = 0; i < 12; ++i) pose[i] = task.pose_count ? whitened_number(task, face, i) : fixed_pose[i];

    // Where the pose's own origin lies in the frame; everything else is relative to it.
    const Inverse inverse = invert(task.matrices + 6 * face, origin[0] + pose[3], origin[1] - pose[7]);
    const float scale = sqrtf(fabsf(inverse.determinant));
    CoefficientTransform t;
    float depth = 0, steepness = 0;
    for (int i = 0; i < 3; ++i) {
        t.rows[0][i] = inverse.xx * pose[i] - inverse.xy * pose[4 + i];
        t.rows[1][i] = inverse.yx * pose[i] - inverse.yy * pose[4 + i];
        t.rows[2][i] = pose[8 + i] / scale;
        depth -= pose[8 + i] * sphere[i];
        steepness += pose[8 + i] * pose[8 + i];
    }
    t.rows[0][3] = inverse.column + inverse.x;
    t.rows[1][3] = inverse.row + inverse.y;
    t.rows[2][3] = (depth + sqrtf(steepness) * sphere[3]) / scale;
    return t;
}

// Point i of FACES_AT_A_TIME faces, model units; coefficients: (FACES_AT_A_TIME, coefficient_count).
inline FACEMESH_HD void model_points(const CoefficientTask &task, const float *coefficients, int i, Triple *points) {
    const size_t count = size_t(task.count);
    for (int axis = 0; axis < 3; ++axis) {
        const float mean = task.mean[axis * count + i];
        for (int face = 0; face < FACES_AT_A_TIME; ++face) points[face].values[axis] = mean;
    }
    for (int k = 0; k < task.coefficient_count; ++k) {
        for (int axis = 0; axis < 3; ++axis) {
            const float step = load_value(task.basis, (3 * size_t(k) + axis) * count + i, task.basis_half);
            for (int face = 0; face < FACES_AT_A_TIME; ++face)
                points[face].values[axis] += coefficients[face * task.coefficient_count + k] * step;
        }
    }
}

// The offset comes last: the sums before it are relative to the face, hence small.
inline FACEMESH_HD Triple place_point(const CoefficientTransform &t, const Triple &point) {
    const float x = point.values[0], y = point.values[1], z = point.values[2];
    Triple placed;
    for (int axis = 0; axis < 3; ++axis) {
        const float *row = t.rows[axis];
        placed.values[axis] = row[0] * x + row[1] * y + row[2] * z + row[3];
    }
    return placed;
}

} // namespace facemesh
