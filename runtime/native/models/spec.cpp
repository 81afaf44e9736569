#include "models/spec.h"

#include <cmath>
#include <cstdio>
#include <initializer_list>
#include <nlohmann/json.hpp>

#include "library/error.h"
#include "models/files.h"
#include "models/sha256.h"

namespace facemesh {
namespace {

using nlohmann::json;

constexpr size_t MOST_BYTES = 1 << 20, MOST_MODEL_BYTES = size_t(2) << 30;
constexpr double LEAST_CROP_SCALE = 0.1, MOST_CROP_SCALE = 10;
const char *const REMEDY = "write it again with 'python -m export onnx'";

// One object of the document; reads check type and range, and name the field at fault.
class Fields {
  public:
    Fields(const json &object, std::string prefix, const std::string &path)
        : object_(object), prefix_(std::move(prefix)), path_(path) {}

    Fields inner(const char *name) const { return Fields(need(name, &json::is_object, "an object"), name, path_); }

    std::string text(const char *name) const { return need(name, &json::is_string, "a text").get<std::string>(); }

    std::string text(const char *name, std::initializer_list<const char *> allowed) const {
        const std::string value = text(name);
        std::string choices;
        for (const char *choice : allowed) {
            if (value == choice) return value;
            choices += choices.empty() ? choice : std::string(", ") + choice;
        }
        throw wrong(name, "must be one of " + choices + ", is " + value);
    }

    double number(const char *name, double least, double most) const {
        return in_range(name, need(name, &json::is_number, "a number").get<double>(), least, most);
    }

    int whole(const char *name, int least, int most) const {
        const double value = need(name, &json::is_number_integer, "a whole number").get<double>();
        return int(in_range(name, value, least, most));
    }

    bool is_set(const char *name) const { return object_.contains(name) && !object_.at(name).is_null(); }

    const json &need(const char *name, bool (json::*is_right)() const noexcept, const char *kind) const {
        if (!object_.contains(name)) throw wrong(name, "is missing");
        const json &value = object_.at(name);
        if (!(value.*is_right)()) throw wrong(name, std::string("must be ") + kind);
        return value;
    }

    Error wrong(const char *name, const std::string &fault) const {
        const std::string field = prefix_.empty() ? name : prefix_ + "." + name;
        return bad_file(path_, "field " + field + " " + fault + "; " + REMEDY);
    }

  private:
    double in_range(const char *name, double value, double least, double most) const {
        if (value >= least && value <= most) return value;
        char range[96];
        std::snprintf(range, sizeof range, "must be %g..%g, is %g", least, most, value);
        throw wrong(name, range);
    }

    const json &object_;
    std::string prefix_;
    const std::string &path_;
};

void read_input(const Fields &fields, Spec &spec) {
    spec.input = fields.text("name");
    spec.side = fields.whole("size", 8, 4096);
    spec.channels_last = fields.text("layout", {"NCHW", "NHWC"}) == "NHWC";
    spec.wants_rgb = fields.text("colour_order", {"RGB", "BGR"}) == "RGB";
    const json &range = fields.need("value_range", &json::is_array, "two rising numbers");
    if (range.size() != 2 || !range[0].is_number() || !range[1].is_number())
        throw fields.wrong("value_range", "must be two rising numbers");
    const double low = range[0], high = range[1];
    if (!(std::isfinite(low) && std::isfinite(high) && low < high))
        throw fields.wrong("value_range", "must be two rising numbers");
    spec.low = float(low);
    spec.high = float(high);
    if (fields.is_set("landmark_channel") && fields.need("landmark_channel", &json::is_boolean, "true or false"))
        throw fields.wrong("landmark_channel", "asks for landmarks beside the picture, which only the Python runtime "
                                               "gives a network; use a network of the picture alone, or");
}

} // namespace

Spec load_spec(const std::string &path) {
    const Bytes text = read_file(path, MOST_BYTES, "it comes with the model: keep both in one folder");
    const json document = json::parse(text.begin(), text.end(), nullptr, false);
    if (!document.is_object()) throw bad_file(path, std::string("is not a JSON object; ") + REMEDY);
    const Fields fields(document, "", path);
    const std::string family = fields.text("family", {"position_map", "coefficients"});
    if (family != "position_map")
        throw bad_file(path, "a model of the family " + family +
                                 ", which only the Python runtime decodes; give a position-map model");
    Spec spec;
    spec.name = fields.text("name");
    read_input(fields.inner("input"), spec);
    const Fields output = fields.inner("output");
    spec.output = output.text("name");
    spec.map_side = output.whole("size", 8, 4096);
    spec.map_scale = output.number("scale", 1e-30, 1e30);
    spec.crop_scale = fields.number("crop_scale", LEAST_CROP_SCALE, MOST_CROP_SCALE);
    spec.topology = fields.text("topology");
    spec.precision = fields.text("precision", {"fp32", "fp16", "int8"});
    spec.sha256 = fields.text("onnx_sha256");
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
