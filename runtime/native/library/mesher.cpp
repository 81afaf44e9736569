#include "library/mesher.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

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

Decoder make_decoder(const Topology &topology, const Spec &spec) {
    return Decoder(topology.face_indices.data(), topology.face_indices.size(), topology.landmark_vertices,
                   topology.resolution, spec.map_side, spec.channels_last, spec.map_scale);
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

Mesher::Mesher(Spec spec, Topology topology, std::unique_ptr<Network> network)
    : spec_(std::move(spec)), topology_(std::move(topology)), dense_(make_decoder(topology_, spec_)),
      sparse_(make_decoder(topology_.landmarks_alone(), spec_)), pose_(topology_.canonical_landmarks),
      network_(std::move(network)), sparse_vertices_(3 * sparse_.vertex_count()) {}

Network &Mesher::network() {
    if (!network_)
        throw bad_argument(spec_.name + ": only the decoder is open; open the model with facemesh_model_open()");
    return *network_;
}

Matrix Mesher::crop_matrix(const float *box) const {
    return facemesh::crop_matrix({box[0], box[1], box[2], box[3]}, spec_.crop_scale, spec_.side);
}

void Mesher::crop(const Picture &picture, const Matrix &matrix, float *input) {
    cropper_(picture, matrix, spec_.format(picture.is_rgb), input);
}

void Mesher::decode(const float *output, Look &look) {
    if (look.vertices)
        dense_.decode(output, look.matrix.data(), look.vertices, look.landmarks);
    else
        sparse_.decode(output, look.matrix.data(), sparse_vertices_.data(), look.landmarks);
    const bool is_finite = look.vertices ? all_finite(look.vertices, 3 * dense_.vertex_count())
                                         : all_finite(look.landmarks, 3 * FACEMESH_LANDMARKS);
    const bool has_extent =
        std::any_of(look.landmarks + 3, look.landmarks + 3 * FACEMESH_LANDMARKS,
                    [&](float &number) { return number != look.landmarks[(&number - look.landmarks) % 3]; });
    if (!is_finite || !has_extent)
        throw Error(FACEMESH_FAILED, spec_.name + ": the vertices are not finite or all the same: the model's output "
                                                  "is unusable; check the model with another picture");
    look.pose = pose_(look.landmarks);
    find_extent(look.landmarks, look.box);
    look.roll_deg = roll_in_crop_deg(look.pose, look.matrix);
    look.is_turned = std::fabs(look.roll_deg) > MOST_ROLL_DEG;
    look.crop_is_turned = crop_roll_deg(look.matrix) != 0;
}

void Mesher::see_once(const Picture &picture, Look *looks, size_t count) {
    Network &net = network();
    const size_t most = size_t(net.max_batch());
    for (size_t start = 0; start < count; start += most) {
        const size_t batch = std::min(most, count - start);
        for (size_t slot = 0; slot < batch; ++slot) crop(picture, looks[start + slot].matrix, net.input(int(slot)));
        net.run(int(batch));
        for (size_t slot = 0; slot < batch; ++slot) {
            looks[start + slot].confidence = net.confidence(int(slot));
            decode(net.output(int(slot)), looks[start + slot]);
        }
    }
}

void Mesher::see(const Picture &picture, Look *looks, size_t count) {
    see_once(picture, looks, count);
    see_again(picture, looks, count);
}

void Mesher::see_again(const Picture &picture, Look *looks, size_t count) {
    numbers_.clear();
    for (size_t number = 0; number < count; ++number) numbers_.push_back(number);
    for (int turn = 1; turn < MOST_LOOKS; ++turn) {
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
        const size_t room = 3 * dense_.vertex_count();
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
    return turned_crop(facemesh::crop_matrix(box, spec_.crop_scale, spec_.side), x, y, roll_deg);
}

} // namespace facemesh
