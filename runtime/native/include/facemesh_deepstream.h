/* The parsers of a DeepStream pipeline: nvinfer runs the networks (network-type=100, output-tensor-meta=1), a pad probe
 * hands their tensors over. `python -m export deepstream` writes the configurations. No type of DeepStream occurs, so
 * the same functions serve C, C++ and Python's ctypes.
 *
 *     primary:   facemesh_yunet_parse()      tensors of YuNet -> boxes, and the objects that the secondary crops
 *     secondary: facemesh_object_matrix()    the object's rectangle -> the crop that nvinfer made
 *                facemesh_decode()           the network's tensor -> landmarks, pose, vertices: facemesh.h
 *
 * Threads, errors and ownership are those of facemesh.h.
 */
#ifndef FACEMESH_DEEPSTREAM_H
#define FACEMESH_DEEPSTREAM_H

#include "facemesh.h"

#ifdef __cplusplus
extern "C" {
#endif

#define FACEMESH_YUNET_TENSORS 12

/* Their names in the order that facemesh_yunet_parse() wants: cls, obj, bbox, kps for the strides 8, 16, 32 each. */
FACEMESH_API const char *facemesh_yunet_tensor(int number);

struct facemesh_yunet_parser;

/* Opens a parser; box_map is the path of yunet_box_map.json. Free the result; NULL on error. */
FACEMESH_API struct facemesh_yunet_parser *facemesh_yunet_parser_open(const char *box_map, float score_threshold);

/* Frees a parser; NULL is fine. */
FACEMESH_API void facemesh_yunet_parser_free(struct facemesh_yunet_parser *parser);

/* Finds at most `capacity` faces in the tensors of one frame, best first. The frame of width x height px was scaled to
 * the network's side x side px with maintain-aspect-ratio=1, its upper left corner in the network's. The boxes are px
 * of the frame. Returns their number, or a negative status. */
FACEMESH_API int facemesh_yunet_parse(struct facemesh_yunet_parser *parser,
                                      const float *const tensors[FACEMESH_YUNET_TENSORS], int side, int width,
                                      int height, struct facemesh_detection *detections, int capacity);

/* The square left, top, width, height px that the secondary is to crop for a face's box. nvinfer cuts it at the
 * frame's border. */
FACEMESH_API int facemesh_object_rectangle(const struct facemesh_model *model, const float box[4], float rectangle[4]);

/* The crop that nvinfer makes of an object's rectangle in a frame of width x height px: cut at the border, then scaled
 * with maintain-aspect-ratio=1. */
FACEMESH_API int facemesh_object_matrix(const struct facemesh_model *model, const float rectangle[4], int width,
                                        int height, double matrix[6]);

#ifdef __cplusplus
}
#endif

#endif
