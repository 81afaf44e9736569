// The contract between a model file and the library, as JSON beside the model: see runtime/models/spec.py.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cpu/crop.h"

namespace facemesh {

class Fields;

enum class FamilyKind { position_map, coefficients }; // see runtime/families/table.py

// Of a network of coefficients: pose, shape, expression, all whitened: number = output * std + mean.
struct CoefficientSplit {
    int pose_count = 0, shape_count = 0, expression_count = 0; // pose: 12 or 0
    std::vector<double> mean, std;
    double origin[2] = {0, 0}; // crop px

    int count() const { return pose_count + shape_count + expression_count; }
};

struct Spec {
    std::string name, input, output;
    std::string confidence; // name of the second output; "": the model has none
    std::string topology;   // path as the spec names it
    std::string precision;  // fp32, fp16 or int8
    std::string sha256;     // of the .onnx file that this spec belongs to
    FamilyKind family;
    int side; // of the input, px
    bool channels_last;
    bool wants_rgb;
    bool landmark_channel; // a fourth plane that shows known landmarks
    bool untrained;        // random weights: its meshes mean nothing
    float low, high;       // values of the colours 0 and 255
    double crop_scale;
    int map_side = 0; // of a position map, px
    double map_scale = 0;
    CoefficientSplit coefficients;

    // Tensors of one face, without the batch.
    std::vector<int64_t> input_shape() const;
    std::vector<int64_t> output_shape() const;
    size_t input_count() const;
    size_t output_count() const;

    // Of the three planes of the picture.
    InputFormat format(bool image_is_rgb) const {
        return {side, channels_last, wants_rgb != image_is_rgb, low, (high - low) / 255};
    }
};

// Throws Error that names the field at fault.
Spec load_spec(const std::string &path);

// The same of an object in another document.
Spec read_spec(const Fields &fields);

// Throws Error if the spec, of the file spec_path, is that of another .onnx file.
void check_digest(const std::string &model_path, const std::string &spec_path, const Spec &spec);

} // namespace facemesh
