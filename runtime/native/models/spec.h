// The contract between a model file and the library, as JSON beside the model: see runtime/models/spec.py.
#pragma once

#include <string>

#include "cpu/crop.h"

namespace facemesh {

struct Spec {
    std::string name, input, output;
    std::string confidence; // name of the second output; "": the model has none
    std::string topology;   // path as the spec names it
    std::string precision;  // fp32, fp16 or int8
    std::string sha256;     // of the .onnx file that this spec belongs to
    int side;               // of the input, px
    bool channels_last;
    bool wants_rgb;
    float low, high; // values of the colours 0 and 255
    int map_side;    // of the output
    double map_scale;
    double crop_scale;

    size_t input_count() const { return 3 * size_t(side) * side; }
    size_t output_count() const { return 3 * size_t(map_side) * map_side; }
    InputFormat format(bool image_is_rgb) const {
        return {side, channels_last, wants_rgb != image_is_rgb, low, (high - low) / 255};
    }
};

// Throws Error that names the field at fault.
Spec load_spec(const std::string &path);

// Throws Error if the spec, of the file spec_path, is that of another .onnx file.
void check_digest(const std::string &model_path, const std::string &spec_path, const Spec &spec);

} // namespace facemesh
