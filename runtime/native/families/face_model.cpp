#include "families/face_model.h"

#include <algorithm>
#include <cmath>

#include "include/facemesh.h"
#include "library/error.h"
#include "models/npz.h"

namespace facemesh {
namespace {

const std::vector<std::string> NAMES = {"mean",        "shape_basis", "exp_basis", "triangles",
                                        "uv",          "keypoints68", "symmetry"};
const std::string SCALE = "basis_scale"; // of INT8 bases alone
constexpr int64_t SCALE_BLOCK = 64;      // vertices that share a scale, per axis and coefficient
constexpr float UV_RESOLUTION = 256;     // side of the UV position map that the texture coordinates count in
const char *const MAKE = "'python -m export face-model' makes one";

std::string listed(const std::vector<std::string> &names) {
    std::string text;
    for (const std::string &name : names) text += (text.empty() ? "" : ", ") + name;
    return text;
}

class FaceModelFile {
  public:
    explicit FaceModelFile(const std::string &path)
        : path_(path), arrays_(load_npz(path, wanted(), "get the file again, or give another face model: " +
                                                            std::string(MAKE))) {
        std::vector<std::string> missing;
        for (const std::string &name : NAMES)
            if (!has(name)) missing.push_back(name);
        if (!missing.empty())
            throw bad_file(path, "lacks " + listed(missing) + "; a face model has the arrays " + listed(NAMES));
    }

    bool has(const std::string &name) const { return arrays_.count(name) > 0; }
    const Array &operator[](const std::string &name) const { return arrays_.at(name); }

    const Array &shaped(const std::string &name, const std::vector<int64_t> &shape) const {
        const Array &array = arrays_.at(name);
        if (!array.has_shape(shape))
            throw wrong(name + " has shape " + array.shape_text() + ", expected " + shape_text(shape) + " (-1: any)");
        return array;
    }

    std::vector<float> finite(const std::string &name) const {
        const Array &array = arrays_.at(name);
        const std::vector<float> values = array.kind == 'f' ? array.floats() : std::vector<float>();
        if (array.kind != 'f' || !std::all_of(values.begin(), values.end(), [](float x) { return std::isfinite(x); }))
            throw wrong(name + " must be finite floating-point numbers");
        return values;
    }

    std::vector<int32_t> vertices(const std::string &name, int64_t count) const {
        const Array &array = arrays_.at(name);
        const std::vector<double> values = array.is_whole() ? array.doubles() : std::vector<double>();
        const bool is_right = !values.empty() && std::all_of(values.begin(), values.end(), [&](double value) {
            return value >= 0 && value < double(count);
        });
        if (!is_right) throw wrong(name + " must be vertex numbers below " + std::to_string(count));
        return std::vector<int32_t>(values.begin(), values.end());
    }

    Error wrong(const std::string &fault) const {
        return bad_file(path_, fault + "; give an intact face model, " + MAKE);
    }

  private:
    static std::vector<std::string> wanted() {
        std::vector<std::string> names = NAMES;
        names.push_back(SCALE);
        return names;
    }

    const std::string &path_;
    Arrays arrays_;
};

int bits_of(const FaceModelFile &file) {
    const Array &shape = file["shape_basis"], &expression = file["exp_basis"];
    if (shape.type() != expression.type() || !(shape.is_int8() || shape.kind == 'f'))
        throw file.wrong("shape_basis and exp_basis must both be float32, float16 or int8, are " + shape.type() +
                         " and " + expression.type());
    return shape.is_int8() ? 8 : shape.item == 2 ? 16 : 32;
}

// The scales (blocks, 3, C) of an INT8 basis.
std::vector<float> scales_of(const FaceModelFile &file, int64_t vertex_count, int64_t coefficient_count) {
    if (!file.has(SCALE)) throw file.wrong("shape_basis is int8 and there is no " + SCALE);
    file.shaped(SCALE, {(vertex_count + SCALE_BLOCK - 1) / SCALE_BLOCK, 3, coefficient_count});
    const Array &array = file[SCALE];
    const std::vector<float> scales = array.kind == 'f' ? array.floats() : std::vector<float>();
    const bool is_right = !scales.empty() && std::all_of(scales.begin(), scales.end(), [](float scale) {
        return std::isfinite(scale) && scale >= 0;
    });
    if (!is_right) throw file.wrong(SCALE + " must be finite floating-point numbers, not negative");
    return scales;
}

// (3V, C), shape first.
std::vector<float> joined_basis(const FaceModelFile &file, int bits, int64_t vertex_count) {
    const std::vector<float> shape = bits == 8 ? file["shape_basis"].floats() : file.finite("shape_basis");
    const std::vector<float> expression = bits == 8 ? file["exp_basis"].floats() : file.finite("exp_basis");
    const size_t left = size_t(file["shape_basis"].shape[1]), right = size_t(file["exp_basis"].shape[1]);
    const size_t columns = left + right, rows = 3 * size_t(vertex_count);
    const std::vector<float> scales =
        bits == 8 ? scales_of(file, vertex_count, int64_t(columns)) : std::vector<float>();
    std::vector<float> basis(rows * columns);
    for (size_t row = 0; row < rows; ++row) {
        float *target = basis.data() + row * columns;
        std::copy_n(shape.data() + row * left, left, target);
        std::copy_n(expression.data() + row * right, right, target + left);
        if (bits != 8) continue;
        const float *scale = scales.data() + (row / 3 / size_t(SCALE_BLOCK) * 3 + row % 3) * columns;
        for (size_t column = 0; column < columns; ++column) target[column] *= scale[column];
    }
    return basis;
}

} // namespace

FaceModel load_face_model(const std::string &path) {
    const FaceModelFile file(path);
    const int64_t count = int64_t(file["uv"].count() / 2);
    file.shaped("mean", {count, 3});
    file.shaped("shape_basis", {3 * count, -1});
    file.shaped("exp_basis", {3 * count, -1});
    file.shaped("triangles", {-1, 3});
    file.shaped("uv", {count, 2});
    file.shaped("keypoints68", {FACEMESH_LANDMARKS});
    file.shaped("symmetry", {count});
    FaceModel model;
    model.mean = file.finite("mean");
    const std::vector<float> uv = file.finite("uv");
    if (uv.empty() || !std::all_of(uv.begin(), uv.end(), [](float number) { return number >= 0 && number <= 1; }))
        throw file.wrong("uv must lie in 0..1");
    model.bits = bits_of(file);
    model.shape_count = int(file["shape_basis"].shape[1]);
    model.expression_count = int(file["exp_basis"].shape[1]);
    model.basis = joined_basis(file, model.bits, count);
    MeshLayout &mesh = model.mesh;
    mesh.vertex_count = size_t(count);
    mesh.triangles = file.vertices("triangles", count);
    mesh.landmark_vertices = file.vertices("keypoints68", count);
    file.vertices("symmetry", count); // nobody here needs it, but a file without is no face model
    for (int32_t vertex : mesh.landmark_vertices)
        for (size_t axis = 0; axis < 3; ++axis) {
            const double number = double(model.mean[3 * size_t(vertex) + axis]);
            mesh.canonical_landmarks.push_back(axis == 1 ? -number : number);
        }
    for (float number : uv) mesh.uv.push_back((number * (UV_RESOLUTION - 1) + 0.5f) / UV_RESOLUTION);
    return model;
}

} // namespace facemesh
