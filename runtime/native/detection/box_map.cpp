#include "detection/box_map.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "library/error.h"
#include "models/files.h"

namespace facemesh {
namespace {

constexpr double NEAR_BORDER = 0.1; // of the box's side
constexpr int FEATURES = 55, PLAIN = 11;
constexpr size_t MOST_BYTES = 1 << 20;

std::vector<double> load_box_map(const std::string &path) {
    const Bytes text = read_file(path, MOST_BYTES, "it comes with yunet.onnx: keep both in one folder");
    const nlohmann::json document = nlohmann::json::parse(text.begin(), text.end(), nullptr, false);
    std::vector<double> numbers;
    if (document.is_object() && document.contains("coefficients") && document["coefficients"].is_array())
        for (const nlohmann::json &row : document["coefficients"])
            for (const nlohmann::json &number : row)
                if (number.is_number() && row.size() == 4) numbers.push_back(number.get<double>());
    const bool is_finite =
        std::all_of(numbers.begin(), numbers.end(), [](double number) { return std::isfinite(number); });
    if (numbers.size() != FEATURES * 4 || !is_finite)
        throw bad_file(path, "must hold 55 x 4 finite coefficients; get the file again");
    return numbers;
}

} // namespace

BoxMap::BoxMap(const std::string &path) : coefficients_(load_box_map(path)) {}

facemesh_detection BoxMap::operator()(const YuNetRow &row, double width, double height) const {
    const double size[2] = {row.box[2], row.box[3]}, picture[2] = {width, height};
    const double centre[2] = {row.box[0] + size[0] / 2, row.box[1] + size[1] / 2};
    double plain[PLAIN] = {1}, touch[5] = {1};
    for (int i = 0; i < 10; ++i) plain[1 + i] = (row.points[i] - centre[i % 2]) / size[i % 2];
    for (int axis = 0; axis < 2; ++axis) {
        const double before = row.box[axis] / size[axis],
                     after = (picture[axis] - row.box[axis] - size[axis]) / size[axis];
        touch[1 + axis] = std::clamp(1 - before / NEAR_BORDER, 0.0, 1.5);
        touch[3 + axis] = std::clamp(1 - after / NEAR_BORDER, 0.0, 1.5);
    }
    double change[4] = {};
    for (int feature = 0; feature < FEATURES; ++feature)
        for (int i = 0; i < 4; ++i)
            change[i] += touch[feature / PLAIN] * plain[feature % PLAIN] * coefficients_[size_t(4 * feature + i)];
    facemesh_detection face{};
    face.score = row.score;
    for (int axis = 0; axis < 2; ++axis) {
        const double middle = centre[axis] + change[axis] * size[axis], side = size[axis] * std::exp(change[2 + axis]);
        face.box[axis] = float(middle - side / 2);
        face.box[2 + axis] = float(middle + side / 2);
    }
    return face;
}

} // namespace facemesh
