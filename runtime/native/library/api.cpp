// The functions of facemesh.h.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>
#include <string>

#include "library/checks.h"
#include "library/handles.h"
#include "models/files.h"

namespace facemesh {
namespace {

constexpr int MOST_THREADS = 64, MOST_BATCH = 64;
constexpr float TURNED_CONFIDENCE = 0.5f;

thread_local std::string last_error;

std::string suffix_of(const std::string &path) {
    const size_t dot = path.find_last_of("./");
    return dot == std::string::npos || path[dot] == '/' ? "" : path.substr(dot);
}

[[maybe_unused]] Error no_backend(const std::string &path) {
    return Error(FACEMESH_NO_BACKEND, path + ": this library was built without ONNX Runtime; build it with "
                                             "-DFACEMESH_ONNXRUNTIME=ON");
}

bool is_engine(const std::string &path) {
    const std::string suffix = suffix_of(path);
    return suffix == ".engine" || suffix == ".plan" || suffix == ".trt";
}

std::unique_ptr<Network> open_engine(const std::string &path, const Manifest &manifest,
                                     [[maybe_unused]] const facemesh_model_params &params) {
#ifdef FACEMESH_WITH_TENSORRT
    if (manifest.library == "tensorrt") return open_tensorrt_network(path, manifest, params.max_batch);
#endif
#ifdef FACEMESH_WITH_TENSORRT_RTX
    if (manifest.library == "tensorrt-rtx") return open_tensorrt_rtx_network(path, manifest, params.max_batch);
#endif
    const bool is_rtx = manifest.library == "tensorrt-rtx";
    throw Error(FACEMESH_NO_BACKEND, path + ": an engine of " + manifest.library + " " + manifest.version +
                                         ", which this library was built without; build it with -DFACEMESH_TENSORRT" +
                                         (is_rtx ? "_RTX" : "") + "=ON, or give the .onnx that the engine is from");
}

std::unique_ptr<Network> open_network(const std::string &path, [[maybe_unused]] const std::string &spec_path,
                                      [[maybe_unused]] const Spec &spec,
                                      [[maybe_unused]] const facemesh_model_params &params) {
    const std::string suffix = suffix_of(path);
    if (suffix == ".onnx") {
#ifdef FACEMESH_WITH_ONNXRUNTIME
        check_digest(path, spec_path, spec);
        return open_onnx_network(path, spec, params.threads, params.max_batch);
#else
        throw no_backend(path);
#endif
    }
    throw bad_file(path, "no backend for " + (suffix.empty() ? "files without a suffix" : suffix) +
                             "; give an .onnx model or an .engine");
}

void check_params(const facemesh_model_params &params) {
    if (params.threads < 0 || params.threads > MOST_THREADS)
        throw bad_argument("threads is " + std::to_string(params.threads) + "; give 0..64");
    if (params.max_batch < 1 || params.max_batch > MOST_BATCH)
        throw bad_argument("max_batch is " + std::to_string(params.max_batch) + "; give 1..64");
    if (params.reuse_landmarks && !params.landmarks_from)
        throw bad_argument("reuse_landmarks spares the model of landmarks_from, which is NULL; give one, or 0");
    if (params.spec) need_path(params.spec, "spec");
    if (params.topology) need_path(params.topology, "topology");
}

std::vector<Look> &room_for(facemesh_model &model, size_t count) {
    if (model.looks.size() < count) model.looks.resize(count);
    return model.looks;
}

// Meshes detections; where a turned picture showed them, those that are surely none are left out.
int mesh_detections(facemesh_model &model, const Picture &picture, const facemesh_detection *found, size_t count,
                    facemesh_face *faces) {
    bool is_turned = false;
    std::vector<Look> &looks = room_for(model, count);
    for (size_t i = 0; i < count; ++i) {
        looks[i].matrix = detection_crop(model.mesher, found[i]);
        looks[i].vertices = faces[i].vertices;
        is_turned |= found[i].roll != 0;
    }
    model.mesher.see(picture, looks.data(), count);
    int kept = 0;
    for (size_t i = 0; i < count; ++i) {
        if (is_turned && !is_sure_when_turned(looks[i])) continue;
        facemesh_face &face = faces[kept++];
        float *vertices = face.vertices; // a face that is left out leaves its place to the next one
        if (vertices != looks[i].vertices && vertices != nullptr && looks[i].vertices != nullptr)
            std::memcpy(vertices, looks[i].vertices, 3 * model.mesher.mesh().vertex_count * sizeof(float));
        write_face(looks[i], face);
        face.score = found[i].score;
        face.track = 0;
    }
    return kept;
}

} // namespace

void keep_error(const char *message) noexcept {
    try {
        last_error = message;
        std::replace_if(
            last_error.begin(), last_error.end(), [](unsigned char letter) { return letter < ' '; }, ' ');
    } catch (const std::exception &) {
        last_error.clear();
    }
}

void write_pose(const Pose &pose, facemesh_face &face) {
    face.yaw = float(pose.yaw_deg);
    face.pitch = float(pose.pitch_deg);
    face.roll = float(pose.roll_deg);
}

void write_face(const Look &look, facemesh_face &face) {
    std::memcpy(face.landmarks, look.landmarks, sizeof face.landmarks);
    std::memcpy(face.box, look.box, sizeof face.box);
    write_pose(look.pose, face);
    face.confidence = look.confidence;
}

Matrix detection_crop(const Mesher &mesher, const facemesh_detection &detection) {
    const float *box = detection.box;
    check_box(box);
    return turned_crop(mesher.crop_matrix(box), (box[0] + box[2]) / 2, (box[1] + box[3]) / 2, detection.roll);
}

bool is_sure_when_turned(const Look &look) {
    return look.confidence == FACEMESH_NO_CONFIDENCE || look.confidence >= TURNED_CONFIDENCE;
}

} // namespace facemesh

using namespace facemesh;

const char *facemesh_error(void) { return last_error.c_str(); }

const char *facemesh_version(void) { return FACEMESH_VERSION; }

const char *facemesh_backends(void) {
    static const char *const names = ""
#ifdef FACEMESH_WITH_ONNXRUNTIME
                                     " onnxruntime"
#endif
#ifdef FACEMESH_WITH_TENSORRT
                                     " tensorrt"
#endif
#ifdef FACEMESH_WITH_TENSORRT_RTX
                                     " tensorrt-rtx"
#endif
        ;
    return *names ? names + 1 : names;
}

facemesh_model_params facemesh_model_default_params(void) { return {0, 8, nullptr, nullptr, nullptr, 0}; }

facemesh_model *facemesh_model_open(const char *path, facemesh_model_params params) {
    return handle_of<facemesh_model>([&] {
        need_path(path, "path");
        check_params(params);
        if (!is_file(path)) throw bad_file(path, "no model file there; check the path");
        const std::string spec_path = params.spec ? params.spec : std::string(path) + ".json";
        const std::optional<Manifest> manifest =
            is_engine(path) ? std::optional(load_manifest(spec_path)) : std::nullopt;
        const Spec spec = manifest ? manifest->spec : load_spec(spec_path);
        std::unique_ptr<Family> family = open_family(spec, spec_path, params.topology);
        std::unique_ptr<Network> network =
            manifest ? open_engine(path, *manifest, params) : open_network(path, spec_path, spec, params);
        std::string warnings = network->warnings();
        if (spec.untrained)
            warnings += std::string(path) + ": its weights are random, for timing, and its meshes mean nothing; "
                                            "give a trained model\n";
        auto model = std::make_unique<facemesh_model>(Mesher(spec, std::move(family), std::move(network)));
        model->warnings = std::move(warnings);
        if (params.landmarks_from) model->mesher.guide(params.landmarks_from->mesher, params.reuse_landmarks != 0);
        return model.release();
    });
}

const char *facemesh_warnings(const facemesh_model *model) { return model ? model->warnings.c_str() : ""; }

facemesh_model *facemesh_decoder_open(const char *spec_path, facemesh_model_params params) {
    return handle_of<facemesh_model>([&] {
        need_path(spec_path, "spec");
        check_params(params);
        const Spec spec = load_spec(spec_path);
        auto model =
            std::make_unique<facemesh_model>(Mesher(spec, open_family(spec, spec_path, params.topology), nullptr));
        if (params.landmarks_from) model->mesher.guide(params.landmarks_from->mesher, params.reuse_landmarks != 0);
        return model.release();
    });
}

void facemesh_model_free(facemesh_model *model) { delete model; }

int facemesh_vertex_count(const facemesh_model *model) {
    return model ? int(model->mesher.mesh().vertex_count) : 0;
}

int facemesh_triangle_count(const facemesh_model *model) {
    return model ? int(model->mesher.mesh().triangles.size() / 3) : 0;
}

int facemesh_input_side(const facemesh_model *model) { return model ? model->mesher.spec().side : 0; }

size_t facemesh_input_count(const facemesh_model *model) { return model ? model->mesher.spec().input_count() : 0; }

size_t facemesh_output_count(const facemesh_model *model) { return model ? model->mesher.spec().output_count() : 0; }

const int32_t *facemesh_triangles(const facemesh_model *model) {
    return model ? model->mesher.mesh().triangles.data() : nullptr;
}

const float *facemesh_texture_coordinates(const facemesh_model *model) {
    return model ? model->mesher.mesh().uv.data() : nullptr;
}

const int32_t *facemesh_landmark_vertices(const facemesh_model *model) {
    return model ? model->mesher.mesh().landmark_vertices.data() : nullptr;
}

int facemesh_from_boxes(facemesh_model *model, facemesh_image image, const float *boxes, const float *scores, int count,
                        facemesh_face *faces) {
    return status_of([&] {
        need(model, "model");
        check_count(count, "count");
        const Picture picture = checked(image);
        if (count == 0) return 0;
        need(boxes, "boxes");
        need(faces, "faces");
        std::vector<Look> &looks = room_for(*model, size_t(count));
        for (int i = 0; i < count; ++i) {
            check_box(boxes + 4 * i, picture);
            if (scores && !std::isfinite(scores[i]))
                throw bad_argument("scores must be finite, are not; give NULL where they are not known");
            looks[size_t(i)].matrix = model->mesher.crop_matrix(boxes + 4 * i);
            looks[size_t(i)].vertices = faces[i].vertices;
        }
        model->mesher.see(picture, looks.data(), size_t(count));
        for (int i = 0; i < count; ++i) {
            write_face(looks[size_t(i)], faces[i]);
            faces[i].score = scores ? scores[i] : 1;
            faces[i].track = 0;
        }
        return count;
    });
}

int facemesh_from_detections(facemesh_model *model, facemesh_image image, const facemesh_detection *detections,
                             int count, facemesh_face *faces) {
    return status_of([&] {
        need(model, "model");
        check_count(count, "count");
        const Picture picture = checked(image);
        if (count == 0) return 0;
        need(detections, "detections");
        need(faces, "faces");
        for (int i = 0; i < count; ++i)
            if (!std::isfinite(detections[i].roll)) throw bad_argument("roll is not finite; give degrees, or 0");
        return mesh_detections(*model, picture, detections, size_t(count), faces);
    });
}

int facemesh_find(facemesh_model *model, facemesh_detector *detector, facemesh_image image, facemesh_face *faces,
                  int capacity) {
    return status_of([&] {
        need(model, "model");
        need(detector, "detector");
        check_count(capacity, "capacity");
        if (capacity > 0) need(faces, "faces");
        const Picture picture = checked(image);
        const std::vector<facemesh_detection> &found = detector->yunet(picture);
        return mesh_detections(*model, picture, found.data(), std::min(found.size(), size_t(capacity)), faces);
    });
}

int facemesh_crop_matrix(const facemesh_model *model, const float box[4], double matrix[6]) {
    return status_of([&] {
        need(model, "model");
        need(box, "box");
        need(matrix, "matrix");
        check_box(box);
        const Matrix found = model->mesher.crop_matrix(box);
        std::copy(found.begin(), found.end(), matrix);
        return int(FACEMESH_OK);
    });
}

int facemesh_crop(facemesh_model *model, facemesh_image image, const double matrix[6], float *input) {
    return status_of([&] {
        need(model, "model");
        need(input, "input");
        model->mesher.crop(checked(image), checked_matrix(matrix), input);
        return int(FACEMESH_OK);
    });
}

int facemesh_draw_landmarks(facemesh_model *model, const float *landmarks, const double matrix[6], float *input) {
    return status_of([&] {
        need(model, "model");
        need(landmarks, "landmarks");
        need(input, "input");
        model->mesher.draw(landmarks, checked_matrix(matrix), input);
        return int(FACEMESH_OK);
    });
}

int facemesh_infer(facemesh_model *model, const float *input, float *output, float *confidence) {
    return status_of([&] {
        need(model, "model");
        need(input, "input");
        need(output, "output");
        const float found = model->mesher.infer(input, output);
        if (confidence) *confidence = found;
        return int(FACEMESH_OK);
    });
}

int facemesh_decode(facemesh_model *model, const float *output, const double matrix[6], facemesh_face *face) {
    return status_of([&] {
        need(model, "model");
        need(output, "output");
        need(face, "face");
        Look &look = room_for(*model, 1)[0];
        look.matrix = checked_matrix(matrix);
        look.vertices = face->vertices;
        look.confidence = FACEMESH_NO_CONFIDENCE;
        model->mesher.decode(output, look);
        write_face(look, *face);
        face->score = 1;
        face->track = 0;
        return int(FACEMESH_OK);
    });
}

facemesh_detector_params facemesh_detector_default_params(void) { return {0.6f, 0, 1, nullptr}; }

facemesh_detector *facemesh_detector_open(const char *path, facemesh_detector_params params) {
    return handle_of<facemesh_detector>([&]() -> facemesh_detector * {
        need_path(path, "path");
        if (params.box_map) need_path(params.box_map, "box_map");
        if (!(params.score_threshold >= 0 && params.score_threshold <= 1))
            throw bad_argument("score_threshold is " + std::to_string(params.score_threshold) + "; give 0..1");
        if (params.side != 0 && (params.side < 32 || params.side > 4096))
            throw bad_argument("side is " + std::to_string(params.side) + "; give 0 or 32..4096");
        if (params.threads < 1 || params.threads > MOST_THREADS)
            throw bad_argument("threads is " + std::to_string(params.threads) + "; give 1..64");
        [[maybe_unused]] const std::string box_map =
            params.box_map ? params.box_map : beside(path, "yunet_box_map.json");
#ifdef FACEMESH_WITH_ONNXRUNTIME
        auto network = open_onnx_yunet(path, params.score_threshold, params.threads);
        return new facemesh_detector{YuNet(std::move(network), box_map, params.side)};
#else
        throw no_backend(path);
#endif
    });
}

void facemesh_detector_free(facemesh_detector *detector) { delete detector; }

int facemesh_detect(facemesh_detector *detector, facemesh_image image, facemesh_detection *detections, int capacity) {
    return status_of([&] {
        need(detector, "detector");
        check_count(capacity, "capacity");
        if (capacity > 0) need(detections, "detections");
        const std::vector<facemesh_detection> &found = detector->yunet(checked(image));
        const size_t count = std::min(found.size(), size_t(capacity));
        std::copy_n(found.begin(), count, detections);
        return int(count);
    });
}
