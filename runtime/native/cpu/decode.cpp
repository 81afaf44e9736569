#include "decode.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "simd.h"

namespace facemesh {

// Map value -> frame px: x' = xx x + xy y + tx, y' = yx x + yy y + ty, z' = zz z.
struct Affine {
    float xx, xy, yx, yy, zz, tx, ty;
};

namespace {

Affine invert(const double *m, double scale) {
    const double determinant = m[0] * m[4] - m[1] * m[3];
    const double xx = m[4] / determinant, xy = -m[1] / determinant, yx = -m[3] / determinant, yy = m[0] / determinant;
    const double tx = -(xx * m[2] + xy * m[5]), ty = -(yx * m[2] + yy * m[5]);
    const double zz = 1.0 / std::sqrt(std::fabs(determinant));
    Affine affine;
    affine.xx = float(xx * scale);
    affine.xy = float(xy * scale);
    affine.yx = float(yx * scale);
    affine.yy = float(yy * scale);
    affine.zz = float(zz * scale);
    affine.tx = float(tx);
    affine.ty = float(ty);
    return affine;
}

FACEMESH_MULTIVERSION
void transform_planes(const float *x, const float *y, const float *z, int count, const Affine &a, float *out) {
    const Affine affine = a;
#pragma omp simd
    for (int i = 0; i < count; ++i) {
        out[3 * i] = affine.xx * x[i] + affine.xy * y[i] + affine.tx;
        out[3 * i + 1] = affine.yx * x[i] + affine.yy * y[i] + affine.ty;
        out[3 * i + 2] = affine.zz * z[i];
    }
}

FACEMESH_MULTIVERSION
void transform_points(const float *points, int count, const Affine &a, float *out) {
    const Affine affine = a;
#pragma omp simd
    for (int i = 0; i < count; ++i) {
        const float x = points[3 * i], y = points[3 * i + 1], z = points[3 * i + 2];
        out[3 * i] = affine.xx * x + affine.xy * y + affine.tx;
        out[3 * i + 1] = affine.yx * x + affine.yy * y + affine.ty;
        out[3 * i + 2] = affine.zz * z;
    }
}

typedef float Lanes __attribute__((vector_size(16))); // GCC and Clang, every platform: a point and an unused fourth

// Points of a map row -> points of a grid row, by linear interpolation. Writes one float beyond the last point.
FACEMESH_MULTIVERSION
void widen(const float *row, const int32_t *left, const float *weight, int count, float *out) {
    for (int i = 0; i < count; ++i) {
        Lanes a, b;
        std::memcpy(&a, row + left[i], sizeof a);
        std::memcpy(&b, row + left[i] + 3, sizeof b);
        a += weight[i] * (b - a);
        std::memcpy(out + 3 * i, &a, sizeof a);
    }
}

// Values are relative to the crop's origin until here: adding the offset last keeps float32 exact to the last place far
// from the frame's origin.
FACEMESH_MULTIVERSION
void blend(const float *upper, const float *lower, float weight, const float *offset, int count, float *out) {
#pragma omp simd
    for (int i = 0; i < count; ++i) out[i] = upper[i] + weight * (lower[i] - upper[i]) + offset[i];
}

} // namespace

Decoder::Decoder(const int32_t *face_indices, size_t face_count, std::vector<int32_t> landmark_vertices, int resolution,
                 int map_size, bool channels_last, double scale)
    : resolution_(resolution), map_size_(map_size), channels_last_(channels_last), scale_(scale),
      vertex_count_(face_count), landmark_vertices_(std::move(landmark_vertices)) {
    for (size_t vertex = 0; vertex < face_count; ++vertex) {
        const int32_t row = face_indices[vertex] / resolution, column = face_indices[vertex] % resolution;
        if (!runs_.empty() && runs_.back().row == row && runs_.back().column + runs_.back().length == column)
            ++runs_.back().length;
        else
            runs_.push_back({row, column, 1, vertex});
    }
    for (int i = 0; i < resolution; ++i) {
        // The centre of grid pixel i in map pixels, clamped at the border like cv2.resize.
        const double position = std::clamp((i + 0.5) * map_size / resolution - 0.5, 0.0, map_size - 1.0);
        const int32_t left = int32_t(position);
        const float weight = float(position - left);
        row_taps_.push_back({left, weight});
        column_left_.push_back(3 * left);
        column_weight_.push_back(weight);
    }
}

void Decoder::decode(const float *map, const double *matrix, float *vertices, float *landmarks) const {
    std::vector<float> memory;
    decode(map, matrix, vertices, landmarks, memory);
}

void Decoder::decode(const float *map, const double *matrix, float *vertices, float *landmarks,
                     std::vector<float> &memory) const {
    const Affine affine = invert(matrix, scale_);
    if (map_size_ == resolution_)
        decode_direct(map, affine, vertices);
    else
        decode_sampled(map, affine, vertices, memory);
    for (size_t i = 0; i < landmark_vertices_.size(); ++i)
        std::copy_n(vertices + 3 * size_t(landmark_vertices_[i]), 3, landmarks + 3 * i);
}

void Decoder::decode_direct(const float *map, const Affine &affine, float *vertices) const {
    const size_t plane = size_t(map_size_) * map_size_;
    for (const Run &run : runs_) {
        const size_t pixel = size_t(run.row) * map_size_ + run.column;
        float *out = vertices + 3 * run.vertex;
        if (channels_last_)
            transform_points(map + 3 * pixel, run.length, affine, out);
        else
            transform_planes(map + pixel, map + plane + pixel, map + 2 * plane + pixel, run.length, affine, out);
    }
}

// Bilinear sampling commutes with the affine transform, so the small map is transformed; a grid row is then a blend of
// two widened map rows.
void Decoder::decode_sampled(const float *map, const Affine &affine, float *vertices,
                             std::vector<float> &memory) const {
    const size_t plane = size_t(map_size_) * map_size_, width = 3 * size_t(resolution_);
    Affine linear = affine;
    linear.tx = linear.ty = 0;
    const size_t map_width = 3 * (size_t(map_size_) + 1) + 1;
    memory.assign(width + map_width + 2 * (width + 1), 0.0f);
    float *const offset = memory.data(), *const map_row = offset + width;
    float *buffers[2] = {map_row + map_width, map_row + map_width + width + 1};
    for (size_t i = 0; i < width; i += 3) {
        offset[i] = affine.tx;
        offset[i + 1] = affine.ty;
    }
    int held[2] = {-1, -1}; // the map row that each buffer holds
    const auto load = [&](int slot, int row) {
        if (held[slot] == row) return;
        const size_t pixel = size_t(row) * map_size_;
        if (channels_last_)
            transform_points(map + 3 * pixel, map_size_, linear, map_row);
        else
            transform_planes(map + pixel, map + plane + pixel, map + 2 * plane + pixel, map_size_, linear, map_row);
        widen(map_row, column_left_.data(), column_weight_.data(), resolution_, buffers[slot]);
        held[slot] = row;
    };
    for (const Run &run : runs_) {
        const Tap tap = row_taps_[run.row];
        const int lower = std::min(tap.left + 1, map_size_ - 1);
        if (held[1] == tap.left) { // going down, the lower row becomes the upper one
            std::swap(buffers[0], buffers[1]);
            std::swap(held[0], held[1]);
        }
        load(0, tap.left);
        load(1, lower);
        const size_t start = 3 * size_t(run.column);
        blend(buffers[0] + start, buffers[1] + start, tap.weight, offset + start, 3 * run.length,
              vertices + 3 * run.vertex);
    }
}

} // namespace facemesh
