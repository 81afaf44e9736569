#include "models/spec.h"

#include <algorithm>
#include <cmath>

#include "models/fields.h"
#include "models/files.h"
#include "models/sha256.h"

namespace facemesh {
namespace {

constexpr size_t MOST_MODEL_BYTES = size_t(2) << 30;
constexpr double LEAST_CROP_SCALE = 0.1, MOST_CROP_SCALE = 10;
constexpr int POSE_COUNT = 12; // numbers of a (3, 4) matrix
constexpr int MOST_COEFFICIENTS = 4096;

void read_input(const Fields &fields, Spec &spec) {
    fields.refuse_others({"name", "size", "layout", "colour_order", "value_range", "landmark_channel"});
    spec.input = fields.text("name");
    spec.side = fields.whole("size", 8, 4096);
    spec.channels_last = fields.text("layout", {"NCHW", "NHWC"}) == "NHWC";
    spec.wants_rgb = fields.text("colour_order", {"RGB", "BGR"}) == "RGB";
    const std::vector<double> range = fields.numbers("value_range");
    if (range.size() != 2 || range[0] >= range[1]) throw fields.wrong("value_range", "must be two rising numbers");
    spec.low = float(range[0]);
    spec.high = float(range[1]);
    spec.landmark_channel = fields.truth("landmark_channel", false);
    if (spec.landmark_channel && spec.channels_last)
        throw fields.wrong("landmark_channel", "needs the layout NCHW, it is NHWC");
}

void read_position_map(const Fields &fields, Spec &spec) {
    fields.refuse_others({"name", "size", "scale"});
    spec.map_side = fields.whole("size", 8, 4096);
    spec.map_scale = fields.number("scale", 1e-30, 1e30);
}

std::string describe(const CoefficientSplit &split) {
    return std::to_string(split.pose_count) + " pose + " + std::to_string(split.shape_count) + " shape + " +
           std::to_string(split.expression_count) + " expression";
}

void read_coefficients(const Fields &fields, CoefficientSplit &split) {
    fields.refuse_others({"name", "pose_count", "shape_count", "expression_count", "mean", "std", "origin"});
    split.pose_count = fields.whole("pose_count", 0, MOST_COEFFICIENTS);
    if (split.pose_count != POSE_COUNT && split.pose_count != 0)
        throw fields.wrong("pose_count", "must be 12 or 0, is " + std::to_string(split.pose_count));
    split.shape_count = fields.whole("shape_count", 0, MOST_COEFFICIENTS);
    split.expression_count = fields.whole("expression_count", 0, MOST_COEFFICIENTS);
    if (split.shape_count + split.expression_count == 0)
        throw fields.wrong("shape_count", "and output.expression_count must be counts, not both 0");
    split.mean = fields.numbers("mean");
    split.std = fields.numbers("std");
    for (const auto &[name, values] : {std::pair("mean", &split.mean), std::pair("std", &split.std)})
        if (int(values->size()) != split.count())
            throw fields.wrong(name, "must be " + std::to_string(split.count()) + " finite numbers (" +
                                         describe(split) + "), are " + std::to_string(values->size()));
    const double least = *std::min_element(split.std.begin(), split.std.end());
    if (!(least > 0)) throw fields.wrong("std", "must be positive numbers, the least is " + std::to_string(least));
    const std::vector<double> origin = fields.numbers("origin");
    if (origin.size() != 2) throw fields.wrong("origin", "must be two finite numbers");
    std::copy(origin.begin(), origin.end(), split.origin);
}

} // namespace

std::vector<int64_t> Spec::input_shape() const {
    if (channels_last) return {side, side, 3};
    return {landmark_channel ? 4 : 3, side, side};
}

std::vector<int64_t> Spec::output_shape() const {
    if (family == FamilyKind::coefficients) return {coefficients.count()};
    if (channels_last) return {map_side, map_side, 3};
    return {3, map_side, map_side};
}

size_t Spec::input_count() const { return (landmark_channel ? 4 : 3) * size_t(side) * size_t(side); }

size_t Spec::output_count() const {
    return family == FamilyKind::coefficients ? size_t(coefficients.count()) : 3 * size_t(map_side) * size_t(map_side);
}

Spec load_spec(const std::string &path) {
    const nlohmann::json document = load_json(path, "it comes with the model: keep both in one folder");
    return read_spec(Fields(document, "", path));
}

Spec read_spec(const Fields &fields) {
    Spec spec;
    const bool is_map = fields.text("family", {"position_map", "coefficients"}) == "position_map";
    spec.family = is_map ? FamilyKind::position_map : FamilyKind::coefficients;
    fields.refuse_others({"name", "family", "input", "output", "crop_scale", "topology", "precision", "onnx_sha256",
                          "confidence", "untrained"});
    spec.name = fields.text("name");
    read_input(fields.inner("input"), spec);
    const Fields output = fields.inner("output");
    spec.output = output.text("name");
    if (is_map)
        read_position_map(output, spec);
    else
        read_coefficients(output, spec.coefficients);
    spec.crop_scale = fields.number("crop_scale", LEAST_CROP_SCALE, MOST_CROP_SCALE);
    spec.topology = fields.text("topology");
    spec.precision = fields.text("precision", {"fp32", "fp16", "int8"});
    spec.sha256 = fields.text("onnx_sha256");
    spec.untrained = fields.truth("untrained", false);
    if (fields.is_set("confidence")) {
        spec.confidence = fields.text("confidence");
        if (spec.confidence.empty() || spec.confidence == spec.input || spec.confidence == spec.output)
            throw fields.wrong("confidence", "must be the name of an output of its own");
    }
    return spec;
}

void check_digest(const std::string &model_path, const std::string &spec_path, const Spec &spec) {
    const Bytes model = read_file(model_path, MOST_MODEL_BYTES, "give a smaller model");
    const std::string found = sha256(model.data(), model.size());
    if (found != spec.sha256)
        throw bad_file(model_path, "its SHA-256 " + found.substr(0, 12) + "… is not the " + spec.sha256.substr(0, 12) +
                                       "… of " + spec_path +
                                       "; one of the two files is another version or damaged, "
                                       "export the model again");
}

} // namespace facemesh
