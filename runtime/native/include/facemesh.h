/* Face meshes from C: detect, crop, run the network, decode, track. The library behind it is `libfacemesh`.
 *
 * Basic usage:
 *
 *     struct facemesh_model *model = facemesh_model_open("edge.onnx", facemesh_model_default_params());
 *     struct facemesh_detector *detector = facemesh_detector_open("yunet.onnx", facemesh_detector_default_params());
 *     struct facemesh_face faces[8];
 *     for (int i = 0; i < 8; ++i) faces[i].vertices = NULL; // landmarks alone
 *     int count = facemesh_find(model, detector, image, faces, 8);
 *     if (count < 0) fprintf(stderr, "%s\n", facemesh_error());
 *     facemesh_detector_free(detector);
 *     facemesh_model_free(model);
 *
 * Threads: one thread at a time may use a handle and those that it uses; handles of their own work side by side.
 * Ownership: an opened handle is the caller's to free; every buffer is the caller's; strings are the library's.
 * Errors: functions that open return NULL and the others a negative `enum facemesh_status`; `facemesh_error()` tells
 * what is wrong, where, and the remedy. Nothing is written then but what the function's comment says.
 * Memory: everything is allocated for the first pictures of a size and used again. ONNX Runtime's own run takes memory
 * from frame to frame, and a tracker some small lists now and then, when the detector looks or a face is remembered.
 * Coordinates: x right, y down, an integer is the centre of a pixel; z points to the camera, in pixels, too.
 */
#ifndef FACEMESH_H
#define FACEMESH_H

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#define FACEMESH_API
#else
#define FACEMESH_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define FACEMESH_LANDMARKS 68 /* iBUG 300-W */
#define FACEMESH_NO_CONFIDENCE (-1.0f)

struct facemesh_model;    /* an open network with its mesh, and memory for the faces of one picture */
struct facemesh_detector; /* an open YuNet */
struct facemesh_tracker;  /* the people of one film or camera */

enum facemesh_status {
    FACEMESH_OK = 0,
    FACEMESH_BAD_ARGUMENT = -1, /* a null pointer, a wrong size, a box that is none */
    FACEMESH_BAD_FILE = -2,     /* missing, damaged, or not one that this library reads */
    FACEMESH_NO_BACKEND = -3,   /* the library was built without it, or it or its device is missing here */
    FACEMESH_FAILED = -4,       /* the network did not run, or gave numbers that are not finite */
};

enum facemesh_colours { FACEMESH_BGR = 0, FACEMESH_RGB = 1 };

struct facemesh_image {
    const uint8_t *pixels; /* height rows of width pixels of three bytes; read during the call only */
    int width, height;     /* px */
    ptrdiff_t row_bytes;   /* from row to row, 3 * width at least */
    enum facemesh_colours colours;
};

struct facemesh_detection {
    float box[4]; /* x1, y1, x2, y2 px: the tight box of the 68 landmarks */
    float score;  /* 0..1 */
    float roll;   /* degrees clockwise that the face is turned by, roughly: 0, or the turn that showed it */
};

struct facemesh_face {
    float landmarks[FACEMESH_LANDMARKS][3]; /* px */
    float box[4];                           /* x1, y1, x2, y2 px, tight box of the landmarks */
    float yaw, pitch, roll;                 /* degrees: nose to the image's right, nose up, clockwise */
    float score;                            /* the detection's, 1 for boxes that were given */
    float confidence;                       /* 0..1 that the landmarks are right, or FACEMESH_NO_CONFIDENCE */
    int track;                              /* number of the person from 1; 0: not tracked */
    float *vertices; /* in: room for facemesh_vertex_count() * 3 floats, or NULL; out: px. Set it before every call */
};

/* The message of the last error in this thread, "" before the first; it lasts until this thread's next error. */
FACEMESH_API const char *facemesh_error(void);

/* The library's version, and the backends that it was built with, of "onnxruntime tensorrt tensorrt-rtx". */
FACEMESH_API const char *facemesh_version(void);
FACEMESH_API const char *facemesh_backends(void);

/* Models */

struct facemesh_model_params {
    int threads;          /* of the CPU; 0: one, and up to four for a network that takes longer than 5 ms */
    int max_batch;        /* faces in one run of the network, 1..64 */
    const char *spec;     /* path of the spec or an engine's manifest; NULL: the model's path with .json behind it */
    const char *topology; /* path of the topology, or face model, that the spec names; NULL: from the spec's folder */
    struct facemesh_model *landmarks_from; /* for a model that takes landmarks beside the picture: another one that
                                              finds them, which it uses and does not own; NULL: none */
    int reuse_landmarks; /* 1: a tracked face is shown the landmarks of its last frame, which spares landmarks_from */
};

FACEMESH_API struct facemesh_model_params facemesh_model_default_params(void);

/* Opens an .onnx file by the spec beside it, or an .engine by its manifest: the network then runs on the first CUDA
 * device, in its primary context. Free the result; NULL on error. */
FACEMESH_API struct facemesh_model *facemesh_model_open(const char *path, struct facemesh_model_params params);

/* Lines on an open model: what may make it slow, that its weights are random; "" for none; the model owns them. */
FACEMESH_API const char *facemesh_warnings(const struct facemesh_model *model);

/* Opens the decoder alone, by a spec: for a network that runs elsewhere. Free the result; NULL on error. */
FACEMESH_API struct facemesh_model *facemesh_decoder_open(const char *spec, struct facemesh_model_params params);

/* Frees a model; NULL is fine. Its trackers, and models that take their landmarks from it, are freed before. */
FACEMESH_API void facemesh_model_free(struct facemesh_model *model);

/* Sizes of the mesh and of the network's tensors for one face, in floats; 0 for NULL. */
FACEMESH_API int facemesh_vertex_count(const struct facemesh_model *model);
FACEMESH_API int facemesh_triangle_count(const struct facemesh_model *model);
FACEMESH_API int facemesh_input_side(const struct facemesh_model *model);
FACEMESH_API size_t facemesh_input_count(const struct facemesh_model *model);
FACEMESH_API size_t facemesh_output_count(const struct facemesh_model *model);

/* Corners of the triangles, three vertices each; they turn clockwise on the screen where the face looks at the camera.
 * The model owns them. */
FACEMESH_API const int32_t *facemesh_triangles(const struct facemesh_model *model);

/* Texture coordinates 0..1, u right, v up, two for each vertex; the model owns them. */
FACEMESH_API const float *facemesh_texture_coordinates(const struct facemesh_model *model);

/* The vertices of the 68 landmarks; the model owns them. */
FACEMESH_API const int32_t *facemesh_landmark_vertices(const struct facemesh_model *model);

/* Faces */

/* Meshes the faces in `count` known boxes, four numbers each, tight round the 68 landmarks, into `faces`.
 * `scores` may be NULL. Returns `count`, or a negative status. */
FACEMESH_API int facemesh_from_boxes(struct facemesh_model *model, struct facemesh_image image, const float *boxes,
                                     const float *scores, int count, struct facemesh_face *faces);

/* Meshes the faces of `count` detections into `faces`, turned as they are. Of faces in a turned picture those that the
 * model's confidence tells to be none are left out. Boxes may lie outside the picture, as a detector's may, and scores
 * are passed on as they are. Returns the number of faces, or a negative status. */
FACEMESH_API int facemesh_from_detections(struct facemesh_model *model, struct facemesh_image image,
                                          const struct facemesh_detection *detections, int count,
                                          struct facemesh_face *faces);

/* Detects and meshes at most `capacity` faces, best first. Returns their number, or a negative status. */
FACEMESH_API int facemesh_find(struct facemesh_model *model, struct facemesh_detector *detector,
                               struct facemesh_image image, struct facemesh_face *faces, int capacity);

/* The steps one by one */

/* The crop of a box: six numbers, two rows of a similarity from the picture's pixels to the crop's. */
FACEMESH_API int facemesh_crop_matrix(const struct facemesh_model *model, const float box[4], double matrix[6]);

/* Crops, antialiases and normalises one face into `input`, facemesh_input_count() floats. A plane for landmarks is left
 * as it is. */
FACEMESH_API int facemesh_crop(struct facemesh_model *model, struct facemesh_image image, const double matrix[6],
                               float *input);

/* Draws 68 landmarks, three numbers each, px of the picture, into the last plane of `input` of a model that takes them.
 */
FACEMESH_API int facemesh_draw_landmarks(struct facemesh_model *model, const float *landmarks, const double matrix[6],
                                         float *input);

/* Runs the network on one face: facemesh_input_count() floats in, facemesh_output_count() out.
 * `confidence` may be NULL; it gets FACEMESH_NO_CONFIDENCE where the model does not tell. */
FACEMESH_API int facemesh_infer(struct facemesh_model *model, const float *input, float *output, float *confidence);

/* Decodes the output of one face into `face`: landmarks, box, pose and, if there is room, vertices. */
FACEMESH_API int facemesh_decode(struct facemesh_model *model, const float *output, const double matrix[6],
                                 struct facemesh_face *face);

/* Detection */

struct facemesh_detector_params {
    float score_threshold; /* 0..1 */
    int side;              /* longer side of what YuNet sees, px; 0: 640, and 1280 for large pictures, too */
    int threads;           /* of the CPU, 1..64 */
    const char *box_map;   /* path of yunet_box_map.json; NULL: beside the model file */
};

FACEMESH_API struct facemesh_detector_params facemesh_detector_default_params(void);

/* Opens the YuNet that `python -m export detector` writes without --size. Free the result; NULL on error. */
FACEMESH_API struct facemesh_detector *facemesh_detector_open(const char *path, struct facemesh_detector_params params);

/* Frees a detector; NULL is fine. Trackers that use it are freed before. */
FACEMESH_API void facemesh_detector_free(struct facemesh_detector *detector);

/* Finds at most `capacity` faces, best first. Returns their number, or a negative status. */
FACEMESH_API int facemesh_detect(struct facemesh_detector *detector, struct facemesh_image image,
                                 struct facemesh_detection *detections, int capacity);

/* Films and cameras */

struct facemesh_tracker_params {
    int max_faces;    /* people at most; 0: all */
    float redetect_s; /* how often the detector looks for newcomers while everybody is tracked, s */
    int vertices;     /* 1: the faces have vertices, 0: landmarks alone */
    int smooth;       /* 1: One-Euro filters (Casiez, Roussel, Vogel, CHI 2012), 0: as the network says */
    float cutoff_hz;  /* of the filters at rest; lower: less jitter */
    float beta;       /* growth of the cutoff, Hz for a speed of one size of the face per second; higher: less lag */
    float speed_cutoff_hz; /* of the speed's own filter */
};

FACEMESH_API struct facemesh_tracker_params facemesh_tracker_default_params(void);

/* Makes a tracker over a model and a detector, which it uses and does not own. Free the result; NULL on error. */
FACEMESH_API struct facemesh_tracker *facemesh_tracker_new(struct facemesh_model *model,
                                                           struct facemesh_detector *detector,
                                                           struct facemesh_tracker_params params);

/* Frees a tracker; NULL is fine. */
FACEMESH_API void facemesh_tracker_free(struct facemesh_tracker *tracker);

/* The faces of the next frame, at most `capacity`, by the age of their tracks. `time_s` is the frame's time stamp, NAN
 * if there is none. Faces without room for vertices get none. Returns their number, or a negative status. */
FACEMESH_API int facemesh_track(struct facemesh_tracker *tracker, struct facemesh_image image, double time_s,
                                struct facemesh_face *faces, int capacity);

/* Frames that the detector has looked at; 0 for NULL. */
FACEMESH_API int facemesh_tracker_detections(const struct facemesh_tracker *tracker);

/* Starts anew, with a film that has nothing to do with the one before. */
FACEMESH_API int facemesh_tracker_forget(struct facemesh_tracker *tracker);

#ifdef __cplusplus
}
#endif

#endif
