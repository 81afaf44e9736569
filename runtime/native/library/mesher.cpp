#include "library/mesher.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "cpu/landmark_channel.h"
#include "library/error.h"
#include "tracking/upright_box.h"

namespace facemesh {
namespace {

// Limits of a fitting crop, as in runtime/inference/second_look.py.
constexpr double MOST_ROLL_DEG = 20;
constexpr double MOST_OFFSET = 0.1; // of the crop's side
constexpr double MOST_GROWTH = 1.22;
constexpr int MOST_LOOKS = 3;
constexpr double LEAST_GAIN_DEG = 5;

// Of the landmarks, of usual aspect: as in runtime/inference/guided_runner.py.
constexpr Box REFERENCE_BOX{0, 0, 93, 100};

// From crop px of one network to crop px of another's, for one and the same face of the usual aspect.
Matrix crop_change(const CropRule &rule, const CropRule &first_rule) {
    const Matrix matrix = rule(REFERENCE_BOX), first = first_rule(REFERENCE_BOX);
    const double scale = first[0] / matrix[0];
    return {scale, 0, first[2] - scale * matrix[2], 0, scale, first[5] - scale * matrix[5]};
}

// A sum is finite if all its numbers are, and its lanes are added side by side.
bool all_finite(const float *numbers, size_t count) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (size_t i = 0; i < count; ++i) sum += numbers[i] * 0.0f; // 0, or NaN
    return sum == 0;
}

} // namespace

void find_extent(const float *landmarks, float *box) {
    const auto found = upright_box(landmarks, FACEMESH_LANDMARKS, 0);
    for (size_t i = 0; i < found.size(); ++i) box[i] = float(found[i]);
}

Mesher::Mesher(Spec spec, std::unique_ptr<Family> family, std::unique_ptr<Network> network)
    : spec_(std::move(spec)), family_(std::move(family)), pose_(family_->mesh().canonical_landmarks),
      network_(std::move(network)) {}

void Mesher::guide(Mesher &first, bool reuse) {
    if (!spec_.landmark_channel)
        throw bad_argument(spec_.name + " takes no landmarks beside the picture; set landmarks_from to NULL");
    if (first.spec_.landmark_channel)
        throw bad_argument("landmarks_from: " + first.spec_.name + " takes landmarks itself; give a network that needs "
                                                                   "none, such as the shipped edge.onnx");
    first.network(); // throws if there is none
    first_ = &first;
    reuses_landmarks_ = reuse;
    first_change_ = crop_change(crop_rule(), first.crop_rule());
}

Network &Mesher::network() {
    if (!network_)
        throw bad_argument(spec_.name + ": only the decoder is open; open the model with facemesh_model_open()");
    return *network_;
}

void Mesher::check_guided() {
    if (spec_.landmark_channel && first_ == nullptr)
        throw bad_argument(spec_.name + " takes landmarks beside the picture, and nothing finds them; give an open "
                                        "model that does as facemesh_model_params.landmarks_from, such as the shipped "
                                        "edge.onnx");
}

void Mesher::crop(const Picture &picture, const Matrix &matrix, float *input) {
    cropper_(picture, matrix, spec_.format(picture.is_rgb), input);
}

void Mesher::draw(const float *landmarks, const Matrix &matrix, float *input) {
    if (!spec_.landmark_channel)
        throw bad_argument(spec_.name + " takes no landmarks beside the picture; leave facemesh_draw_landmarks() out");
    const size_t plane = size_t(spec_.side) * size_t(spec_.side);
    draw_landmarks(landmarks, matrix.data(), spec_.side, input + 3 * plane, spec_.side, 1);
}

Error Mesher::unusable(const std::string &fault) const {
    return Error(FACEMESH_FAILED, spec_.name + ": " + fault + ": the model's output is unusable; check the model with "
                                                              "another picture");
}

float Mesher::infer(const float *input, float *output) {
    Network &net = network();
    std::copy_n(input, spec_.input_count(), net.input(0));
    net.run(1);
    const float confidence = net.confidence(0);
    if (!all_finite(net.output(0), spec_.output_count()) || !std::isfinite(confidence))
        throw unusable("the network's numbers are not finite");
    std::copy_n(net.output(0), spec_.output_count(), output);
    return confidence;
}

void Mesher::decode(const float *output, Look &look) {
    const DecodeJob job{output, look.matrix.data(), look.vertices, look.landmarks};
    family_->decode(&job, 1);
    finish(look);
}

// Checks what was decoded, and fills the rest.
void Mesher::finish(Look &look) const {
    const bool is_finite = look.vertices ? all_finite(look.vertices, 3 * mesh().vertex_count)
                                         : all_finite(look.landmarks, 3 * FACEMESH_LANDMARKS);
    const bool has_extent =
        std::any_of(look.landmarks + 3, look.landmarks + 3 * FACEMESH_LANDMARKS,
                    [&](float &number) { return number != look.landmarks[(&number - look.landmarks) % 3]; });
    if (!is_finite || !has_extent)
        throw unusable("the vertices are not finite or all the same");
    if (!std::isfinite(look.confidence)) throw unusable("the confidence is not finite");
    look.pose = pose_(look.landmarks);
    find_extent(look.landmarks, look.box);
    look.roll_deg = roll_in_crop_deg(look.pose, look.matrix);
    look.is_turned = std::fabs(look.roll_deg) > MOST_ROLL_DEG;
    look.crop_is_turned = crop_roll_deg(look.matrix) != 0;
}

const float *const *Mesher::landmarks_for(const Picture &picture, const Look *looks, size_t count,
                                          const float *const *known) {
    check_guided();
    landmarks_.assign(count, nullptr);
    if (known && reuses_landmarks_) std::copy_n(known, count, landmarks_.begin());
    first_looks_.clear();
    for (size_t number = 0; number < count; ++number) {
        if (landmarks_[number]) continue;
        Look look{};
        // Factor by factor, so that a crop without rotation stays one.
        for (size_t i = 0; i < look.matrix.size(); ++i) look.matrix[i] = first_change_[0] * looks[number].matrix[i];
        look.matrix[2] += first_change_[2];
        look.matrix[5] += first_change_[5];
        first_looks_.push_back(look);
    }
    first_->see_once(picture, first_looks_.data(), first_looks_.size());
    auto found = first_looks_.begin();
    for (const float *&points : landmarks_)
        if (!points) points = (found++)->landmarks;
    return landmarks_.data();
}

void Mesher::see_once(const Picture &picture, Look *looks, size_t count, const float *const *known) {
    if (count == 0) return;
    Network &net = network();
    const float *const *landmarks = spec_.landmark_channel ? landmarks_for(picture, looks, count, known) : nullptr;
    const size_t most = size_t(net.max_batch());
    for (size_t start = 0; start < count; start += most) {
        const size_t batch = std::min(most, count - start);
        for (size_t slot = 0; slot < batch; ++slot) {
            const Matrix &matrix = looks[start + slot].matrix;
            if (!is_sound(matrix)) throw unusable("a face has shrunk to a point or outgrown all pictures");
            crop(picture, matrix, net.input(int(slot)));
            if (landmarks) draw(landmarks[start + slot], matrix, net.input(int(slot)));
        }
        net.run(int(batch));
        jobs_.clear();
        for (size_t slot = 0; slot < batch; ++slot) {
            Look &look = looks[start + slot];
            look.confidence = net.confidence(int(slot));
            jobs_.push_back({net.output(int(slot)), look.matrix.data(), look.vertices, look.landmarks});
        }
        family_->decode(jobs_.data(), batch);
        for (size_t slot = 0; slot < batch; ++slot) finish(looks[start + slot]);
    }
}

void Mesher::see(const Picture &picture, Look *looks, size_t count) {
    see_once(picture, looks, count);
    see_again(picture, looks, count);
}

void Mesher::see_again(const Picture &picture, Look *looks, size_t count) {
    numbers_.clear();
    for (size_t number = 0; number < count; ++number) numbers_.push_back(number);
    const int most_looks = spec_.untrained ? 1 : MOST_LOOKS; // random meshes would ask for further looks at random
    for (int turn = 1; turn < most_looks; ++turn) {
        again_.clear();
        size_t wanting = 0;
        for (size_t number : numbers_) {
            Look look = looks[number];
            if (!wants_another(looks[number], look.matrix)) continue;
            numbers_[wanting++] = number;
            again_.push_back(look);
        }
        numbers_.resize(wanting);
        if (again_.empty()) return;
        const size_t room = 3 * mesh().vertex_count;
        if (spare_vertices_.size() < room * wanting) spare_vertices_.resize(room * wanting);
        for (size_t i = 0; i < wanting; ++i)
            if (again_[i].vertices) again_[i].vertices = spare_vertices_.data() + room * i;
        see_once(picture, again_.data(), wanting);

        // A look at which the face is turned further than before does not count.
        size_t counted = 0;
        for (size_t i = 0; i < wanting; ++i) {
            Look &before = looks[numbers_[i]];
            if (again_[i].is_turned && !(std::fabs(again_[i].roll_deg) < std::fabs(before.roll_deg) - LEAST_GAIN_DEG))
                continue;
            float *vertices = before.vertices;
            if (vertices) std::memcpy(vertices, again_[i].vertices, room * sizeof(float));
            before = again_[i];
            before.vertices = vertices;
            numbers_[counted++] = numbers_[i];
        }
        numbers_.resize(counted);
    }
}

// True if the crop does not fit; `wanted` is then the one that the mesh asks for.
bool Mesher::wants_another(const Look &look, Matrix &wanted) const {
    const bool straight = !(look.is_turned || look.crop_is_turned);
    wanted = straight ? crop_matrix(look.box) : upright_crop(look);
    return look.is_turned || !crop_fits(look.matrix, wanted, spec_.side, MOST_OFFSET, MOST_GROWTH);
}

// The crop for the box round the landmarks once they are upright.
Matrix Mesher::upright_crop(const Look &look) const {
    const double roll_deg = picture_roll_deg(look.pose), c = std::cos(roll_deg * DEGREE),
                 s = std::sin(roll_deg * DEGREE);
    const auto [x1, y1, x2, y2] = upright_box(look.landmarks, FACEMESH_LANDMARKS, roll_deg * DEGREE);
    const double u = (x1 + x2) / 2, v = (y1 + y2) / 2, x = c * u - s * v, y = s * u + c * v;
    const double width = x2 - x1, height = y2 - y1;
    const Box box{x - width / 2, y - height / 2, x + width / 2, y + height / 2};
    return turned_crop(crop_rule()(box), x, y, roll_deg);
}

} // namespace facemesh
