// One point of a decoded position map.
#pragma once

#include "kernel_bodies.h"

namespace facemesh {

// Map values, less 0.5, -> frame px: x' = xx x + xy y + tx, y' = yx x + yy y + ty; z' = zz z, of the map value itself.
// (The middle of the map's range is the crop's centre: from there distances are half as large as from its corner, and
// so are errors.)
struct DecodeTransform {
    float xx, xy, yx, yy, zz, tx, ty;
};

inline FACEMESH_HD DecodeTransform decode_transform(const double *matrix, float scale) {
    const Inverse inverse = invert(matrix, 0.5f * scale, 0.5f * scale);
    DecodeTransform t;
    t.xx = scale * inverse.xx;
    t.xy = scale * inverse.xy;
    t.yx = scale * inverse.yx;
    t.yy = scale * inverse.yy;
    t.zz = scale / sqrtf(fabsf(inverse.determinant));
    t.tx = inverse.column + inverse.x;
    t.ty = inverse.row + inverse.y;
    return t;
}

inline FACEMESH_HD Triple map_pixel(const DecodeTask &task, int face, int row, int column) {
    const size_t plane = size_t(task.map_size) * task.map_size, pixel = size_t(row) * task.map_size + column;
    const size_t first = 3 * plane * face + (task.channels_last ? 3 * pixel : pixel);
    const size_t step = task.channels_last ? 1 : plane;
    return {{load_value(task.map, first, task.half), load_value(task.map, first + step, task.half),
             load_value(task.map, first + 2 * step, task.half)}};
}

inline FACEMESH_HD Triple blend(const Triple &a, const Triple &b, float weight) {
    return {{a.values[0] + weight * (b.values[0] - a.values[0]), a.values[1] + weight * (b.values[1] - a.values[1]),
             a.values[2] + weight * (b.values[2] - a.values[2])}};
}

// The map at the centre of a grid pixel; at the border clamped like cv2.resize.
inline FACEMESH_HD Triple sample_map(const DecodeTask &task, int face, int grid_row, int grid_column) {
    const float ratio = float(task.map_size) / float(task.resolution), last = float(task.map_size - 1);
    const float x = fminf(fmaxf((float(grid_column) + 0.5f) * ratio - 0.5f, 0.0f), last);
    const float y = fminf(fmaxf((float(grid_row) + 0.5f) * ratio - 0.5f, 0.0f), last);
    const int left = int(x), top = int(y);
    const int right = left + 1 < task.map_size ? left + 1 : left, bottom = top + 1 < task.map_size ? top + 1 : top;
    const Triple upper = blend(map_pixel(task, face, top, left), map_pixel(task, face, top, right), x - float(left));
    const Triple lower =
        blend(map_pixel(task, face, bottom, left), map_pixel(task, face, bottom, right), x - float(left));
    return blend(upper, lower, y - float(top));
}

// The point of grid pixel indices[i], frame px. The offset comes last: the sums before it are relative to the crop's
// origin, hence small.
inline FACEMESH_HD Triple decode_point(const DecodeTask &task, const DecodeTransform &t, int face, int i) {
    const int pixel = task.indices[i], row = pixel / task.resolution, column = pixel - row * task.resolution;
    const Triple p =
        task.map_size == task.resolution ? map_pixel(task, face, row, column) : sample_map(task, face, row, column);
    const float x = p.values[0] - 0.5f, y = p.values[1] - 0.5f, z = p.values[2];
    return {{t.xx * x + t.xy * y + t.tx, t.yx * x + t.yy * y + t.ty, t.zz * z}};
}

} // namespace facemesh
