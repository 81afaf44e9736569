// Position map -> vertices and landmarks in frame pixels.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace facemesh {

struct Affine; // map value -> frame px

// The tables of one topology and one model, computed once; decode() is const and may run on several threads.
class Decoder {
  public:
    // face_indices: ascending pixels of the resolution x resolution grid; landmark_vertices: positions of the landmarks
    // in face_indices; scale: map value * scale = crop px. The caller has checked the ranges.
    Decoder(const int32_t *face_indices, size_t face_count, std::vector<int32_t> landmark_vertices, int resolution,
            int map_size, bool channels_last, double scale);

    // map: (3, M, M) or (M, M, 3); matrix: (2, 3) row-major similarity, frame px -> crop px, not singular;
    // vertices: (V, 3) and landmarks: (L, 3), frame px.
    void decode(const float *map, const double *matrix, float *vertices, float *landmarks) const;

    // The same in memory that the next call may use again.
    void decode(const float *map, const double *matrix, float *vertices, float *landmarks,
                std::vector<float> &memory) const;

    size_t vertex_count() const { return vertex_count_; }
    size_t landmark_count() const { return landmark_vertices_.size(); }
    int map_size() const { return map_size_; }
    bool channels_last() const { return channels_last_; }

  private:
    struct Run { // consecutive face pixels of one grid row are consecutive vertices
        int32_t row, column, length;
        size_t vertex;
    };
    struct Tap { // position of a grid row or column between two map rows or columns
        int32_t left;
        float weight; // of the right neighbour
    };

    void decode_direct(const float *map, const Affine &affine, float *vertices) const;
    void decode_sampled(const float *map, const Affine &affine, float *vertices, std::vector<float> &memory) const;

    int resolution_, map_size_;
    bool channels_last_;
    double scale_;
    size_t vertex_count_;
    std::vector<int32_t> landmark_vertices_;
    std::vector<Run> runs_;
    std::vector<Tap> row_taps_;        // (resolution,)
    std::vector<int32_t> column_left_; // (resolution,) offsets into an interleaved map row
    std::vector<float> column_weight_; // (resolution,)
};

} // namespace facemesh
