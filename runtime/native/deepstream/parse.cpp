// The functions of facemesh_deepstream.h.
#include "include/facemesh_deepstream.h"

#include <algorithm>
#include <cmath>

#include "detection/box_map.h"
#include "library/checks.h"
#include "library/handles.h"

using namespace facemesh;

struct facemesh_yunet_parser {
    BoxMap box_map;
    RowSelector selector;
    std::vector<YuNetRow> rows;
};

namespace {

const char *const TENSORS[FACEMESH_YUNET_TENSORS] = {"cls_8",  "cls_16",  "cls_32",  "obj_8", "obj_16", "obj_32",
                                                     "bbox_8", "bbox_16", "bbox_32", "kps_8", "kps_16", "kps_32"};
constexpr int LEVELS = 3, MOST_SIDE = 4096, MOST_FRAME_SIDE = 65535;

// Tensors of one stride: (places), (places), (places, 4), (places, 10); the first two are probabilities.
void collect(facemesh_yunet_parser &parser, const float *const tensors[], int level, int side) {
    const float *classes = tensors[level], *objects = tensors[LEVELS + level];
    const float *boxes = tensors[2 * LEVELS + level], *points = tensors[3 * LEVELS + level];
    const int stride = YUNET_STRIDES[level], columns = side / stride;
    for (int place = 0; place < columns * columns; ++place) {
        const float product = std::clamp(classes[place], 0.0f, 1.0f) * std::clamp(objects[place], 0.0f, 1.0f);
        parser.selector.add(std::sqrt(product), place % columns, place / columns, stride, [&](int number) {
            return double(number < 4 ? boxes[4 * place + number] : points[10 * place + number - 4]);
        });
    }
}

void check_frame(int width, int height) {
    if (width < 1 || height < 1 || width > MOST_FRAME_SIDE || height > MOST_FRAME_SIDE)
        throw bad_argument("frame: " + std::to_string(width) + " x " + std::to_string(height) +
                           " px is no size of a picture; give 1..65535 px per side");
}

} // namespace

const char *facemesh_yunet_tensor(int number) {
    return number >= 0 && number < FACEMESH_YUNET_TENSORS ? TENSORS[number] : nullptr;
}

facemesh_yunet_parser *facemesh_yunet_parser_open(const char *box_map, float score_threshold) {
    return handle_of<facemesh_yunet_parser>([&] {
        need_path(box_map, "box_map");
        if (!(score_threshold >= 0 && score_threshold <= 1))
            throw bad_argument("score_threshold is " + std::to_string(score_threshold) + "; give 0..1");
        return new facemesh_yunet_parser{BoxMap(box_map), RowSelector(score_threshold), {}};
    });
}

void facemesh_yunet_parser_free(facemesh_yunet_parser *parser) { delete parser; }

int facemesh_yunet_parse(facemesh_yunet_parser *parser, const float *const tensors[FACEMESH_YUNET_TENSORS], int side,
                         int width, int height, facemesh_detection *detections, int capacity) {
    return status_of([&] {
        need(parser, "parser");
        need(tensors, "tensors");
        for (int i = 0; i < FACEMESH_YUNET_TENSORS; ++i) need(tensors[i], TENSORS[i]);
        check_count(capacity, "capacity");
        if (capacity > 0) need(detections, "detections");
        check_frame(width, height);
        if (side < 32 || side > MOST_SIDE || side % 32 != 0)
            throw bad_argument("side is " + std::to_string(side) + "; give the network's, a multiple of 32");
        parser->selector.clear();
        parser->rows.clear();
        for (int level = 0; level < LEVELS; ++level) collect(*parser, tensors, level, side);
        parser->selector.select(parser->rows);
        const float growth = float(std::max(width, height)) / float(side);
        const int count = std::min(int(parser->rows.size()), capacity);
        for (int i = 0; i < count; ++i) {
            YuNetRow row = parser->rows[size_t(i)];
            for (float &number : row.box) number *= growth;
            for (float &number : row.points) number *= growth;
            detections[i] = parser->box_map(row, width, height);
        }
        return count;
    });
}

int facemesh_object_rectangle(const facemesh_model *model, const float box[4], float rectangle[4]) {
    return status_of([&] {
        need(model, "model");
        need(box, "box");
        need(rectangle, "rectangle");
        check_box(box);
        const double side = model->mesher.crop_rule().square({box[0], box[1], box[2], box[3]});
        // Rectangles begin at the edge of a pixel, boxes at its centre.
        rectangle[0] = float((double(box[0]) + box[2] - side) / 2 + 0.5);
        rectangle[1] = float((double(box[1]) + box[3] - side) / 2 + 0.5);
        rectangle[2] = rectangle[3] = float(side);
        return int(FACEMESH_OK);
    });
}

int facemesh_object_matrix(const facemesh_model *model, const float rectangle[4], int width, int height,
                           double matrix[6]) {
    return status_of([&] {
        need(model, "model");
        need(rectangle, "rectangle");
        need(matrix, "matrix");
        check_frame(width, height);
        const double left = std::max(0.0, double(rectangle[0])), top = std::max(0.0, double(rectangle[1]));
        const double right = std::min(double(width), double(rectangle[0]) + rectangle[2]);
        const double bottom = std::min(double(height), double(rectangle[1]) + rectangle[3]);
        const bool is_finite = std::isfinite(rectangle[0] + rectangle[1] + rectangle[2] + rectangle[3]);
        if (!(is_finite && right - left >= 1 && bottom - top >= 1))
            throw bad_argument("rectangle: lies outside the frame or is empty; give the object's left, top, width and "
                               "height in px of the frame");
        const double scale = model->mesher.spec().side / std::max(right - left, bottom - top);
        const Matrix found{scale, 0, (0.5 - left) * scale - 0.5, 0, scale, (0.5 - top) * scale - 0.5};
        std::copy(found.begin(), found.end(), matrix);
        return int(FACEMESH_OK);
    });
}
