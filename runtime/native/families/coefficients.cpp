// Networks that regress a pose and coefficients of a linear face model: see runtime/families/coefficients.py.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "cpu/coefficients.h"
#include "families/family.h"
#include "include/facemesh.h"
#include "library/error.h"
#include "families/face_model.h"

namespace facemesh {
namespace {

constexpr int LONGEST_VECTORS = 64; // bytes; the decoder takes what the machine has

// The (3, 4) pose of a face that looks straight ahead and fills its box, for networks without a pose.
void set_frontal_pose(const FaceModel &model, const Spec &spec, double *pose) {
    double low[2] = {INFINITY, INFINITY}, high[2] = {-INFINITY, -INFINITY};
    for (int32_t vertex : model.mesh.landmark_vertices)
        for (size_t axis = 0; axis < 2; ++axis) {
            low[axis] = std::min(low[axis], double(model.mean[3 * size_t(vertex) + axis]));
            high[axis] = std::max(high[axis], double(model.mean[3 * size_t(vertex) + axis]));
        }
    const double scale = spec.side / spec.crop_scale / std::max(high[0] - low[0], high[1] - low[1]);
    const double *origin = spec.coefficients.origin, middle = (spec.side - 1) / 2.0;
    for (int i = 0; i < 3; ++i) pose[4 * i + i] = scale;
    pose[3] = middle - origin[0] - scale * (low[0] + high[0]) / 2;
    pose[7] = origin[1] - middle - scale * (low[1] + high[1]) / 2;
}

// Centre and radius of a sphere round the mean face.
void set_mean_sphere(const FaceModel &model, double *sphere) {
    const size_t count = model.mesh.vertex_count;
    double radius = 0;
    for (size_t i = 0; i < 3 * count; ++i) sphere[i % 3] += model.mean[i];
    for (size_t axis = 0; axis < 3; ++axis) sphere[axis] /= double(count);
    for (size_t vertex = 0; vertex < count; ++vertex) {
        double square = 0;
        for (size_t axis = 0; axis < 3; ++axis) {
            const double offset = model.mean[3 * vertex + axis] - sphere[axis];
            square += offset * offset;
        }
        radius = std::max(radius, std::sqrt(square));
    }
    sphere[3] = radius;
}

CoefficientFormat format_of(const FaceModel &model, const Spec &spec) {
    const CoefficientSplit &split = spec.coefficients;
    CoefficientFormat format{split.pose_count, split.mean, split.std, {}, split.origin[0], split.origin[1], {}};
    if (split.pose_count == 0) set_frontal_pose(model, spec, format.fixed_pose);
    set_mean_sphere(model, format.sphere);
    return format;
}

CoefficientDecoder dense_decoder(const FaceModel &model, const Spec &spec) {
    return CoefficientDecoder(format_of(model, spec), model.mean.data(), model.basis.data(), model.mesh.vertex_count,
                              model.bits, LONGEST_VECTORS);
}

// Of the landmarks alone. Those of an INT8 basis come from many blocks of vertices, whose scales differ.
CoefficientDecoder sparse_decoder(const FaceModel &model, const Spec &spec) {
    const size_t row = 3 * size_t(model.shape_count + model.expression_count);
    std::vector<float> mean, basis;
    for (int32_t vertex : model.mesh.landmark_vertices) {
        mean.insert(mean.end(), model.mean.begin() + 3 * vertex, model.mean.begin() + 3 * vertex + 3);
        const auto first = model.basis.begin() + std::ptrdiff_t(row * size_t(vertex));
        basis.insert(basis.end(), first, first + std::ptrdiff_t(row));
    }
    return CoefficientDecoder(format_of(model, spec), mean.data(), basis.data(), FACEMESH_LANDMARKS,
                              std::max(16, model.bits), LONGEST_VECTORS);
}

class Coefficients : public Family {
  public:
    Coefficients(const Spec &spec, FaceModel model)
        : Family({true, spec.crop_scale, spec.side}), dense_(dense_decoder(model, spec)),
          sparse_(sparse_decoder(model, spec)), mesh_(std::move(model.mesh)), scratch_(dense_.scratch_count()) {}

    const MeshLayout &mesh() const override { return mesh_; }

    void decode(const DecodeJob *jobs, size_t count) override {
        const DecodeJob *waiting = nullptr; // two faces share a read of the dense basis
        for (const DecodeJob *job = jobs; job != jobs + count; ++job) {
            if (!job->vertices) {
                sparse_.decode_pair(&job->output, &job->matrix, &job->landmarks, 1, scratch_.data());
            } else if (waiting) {
                decode_dense({waiting, job}, 2);
                waiting = nullptr;
            } else {
                waiting = job;
            }
        }
        if (waiting) decode_dense({waiting, nullptr}, 1);
    }

  private:
    void decode_dense(const std::array<const DecodeJob *, 2> &jobs, int count) {
        const float *outputs[2];
        const double *matrices[2];
        float *vertices[2];
        for (int i = 0; i < count; ++i) {
            outputs[i] = jobs[size_t(i)]->output;
            matrices[i] = jobs[size_t(i)]->matrix;
            vertices[i] = jobs[size_t(i)]->vertices;
        }
        dense_.decode_pair(outputs, matrices, vertices, count, scratch_.data());
        for (int i = 0; i < count; ++i)
            for (size_t point = 0; point < FACEMESH_LANDMARKS; ++point)
                std::memcpy(jobs[size_t(i)]->landmarks + 3 * point,
                            vertices[i] + 3 * size_t(mesh_.landmark_vertices[point]), 3 * sizeof(float));
    }

    CoefficientDecoder dense_, sparse_;
    MeshLayout mesh_;
    std::vector<float> scratch_;
};

} // namespace

std::unique_ptr<Family> open_coefficients(const Spec &spec, const std::string &path) {
    FaceModel model = load_face_model(path);
    const CoefficientSplit &split = spec.coefficients;
    if (model.shape_count != split.shape_count || model.expression_count != split.expression_count)
        throw bad_file(path, "its " + std::to_string(model.shape_count) + " + " +
                                 std::to_string(model.expression_count) +
                                 " coefficients of shape and expression are not the network's " +
                                 std::to_string(split.shape_count) + " + " + std::to_string(split.expression_count) +
                                 "; give the face model that it was trained with");
    return std::make_unique<Coefficients>(spec, std::move(model));
}

} // namespace facemesh
