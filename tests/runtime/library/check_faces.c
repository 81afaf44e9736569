/* Use libfacemesh as a program does, and compare with what Python says. It also runs under sanitizers, valgrind and
 * emulators: check_faces MODEL YUNET PICTURE WIDTH HEIGHT LANDMARKS TOLERANCE [COEFFICIENTS GUIDED]
 * PICTURE: WIDTH x HEIGHT pixels of three bytes BGR; LANDMARKS: 68 x 3 float32 px of its one face. COEFFICIENTS: a
 * network of face-model coefficients, GUIDED: another one that takes landmarks; LANDMARKS goes on with 68 x 3 for each,
 * in the box of MODEL's face. */
#include <facemesh.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FRAMES 3

static int failures = 0;

static void expect(int holds, const char *what) {
    if (holds) return;
    fprintf(stderr, "check_faces: %s; the last error: %s\n", what, facemesh_error());
    ++failures;
}

static void *read_whole(const char *path, size_t size) {
    FILE *file = fopen(path, "rb");
    void *data = malloc(size);
    if (!file || !data || fread(data, 1, size, file) != size) {
        fprintf(stderr, "check_faces: %s cannot be read\n", path);
        exit(2);
    }
    fclose(file);
    return data;
}

static double distance(const struct facemesh_face *face, const float *landmarks) {
    double most = 0;
    for (int i = 0; i < FACEMESH_LANDMARKS; ++i)
        for (int axis = 0; axis < 3; ++axis)
            most = fmax(most, fabs((double)face->landmarks[i][axis] - (double)landmarks[3 * i + axis]));
    return most;
}

/* The face in a box by another network; returns how far its landmarks lie from those wanted, px. */
static double check_network(const char *path, struct facemesh_model *landmarks_from, struct facemesh_image image,
                            const float *box, const float *landmarks) {
    struct facemesh_model_params params = facemesh_model_default_params();
    params.landmarks_from = landmarks_from;
    struct facemesh_model *model = facemesh_model_open(path, params);
    expect(model != NULL, "a network of coefficients does not open");
    if (!model) return 1e9;
    struct facemesh_face face = {.vertices = malloc(sizeof(float) * 3 * (size_t)facemesh_vertex_count(model))};
    expect(facemesh_from_boxes(model, image, box, NULL, 1, &face) == 1, "no mesh of coefficients");
    const double off = distance(&face, landmarks);
    free(face.vertices);
    facemesh_model_free(model);
    return off;
}

static void check_errors(struct facemesh_model *model, struct facemesh_image image, struct facemesh_face *face) {
    const float boxes[][4] = {{0, 0, NAN, 9}, {9, 9, 1, 1}, {-90, -90, -50, -50}};
    for (size_t i = 0; i < sizeof boxes / sizeof *boxes; ++i) {
        expect(facemesh_from_boxes(model, image, boxes[i], NULL, 1, face) == FACEMESH_BAD_ARGUMENT, "a bad box passes");
        expect(strchr(facemesh_error(), ';') != NULL, "an error has no remedy");
    }
    struct facemesh_image odd = image;
    odd.colours = (enum facemesh_colours)7;
    expect(facemesh_from_boxes(model, odd, boxes[0], NULL, 1, face) == FACEMESH_BAD_ARGUMENT, "odd colours pass");
    expect(strstr(facemesh_error(), "colours is 7;") != NULL, "odd colours are not named");
    image.pixels = NULL;
    expect(facemesh_from_boxes(model, image, boxes[0], NULL, 1, face) == FACEMESH_BAD_ARGUMENT, "no picture passes");
    expect(facemesh_model_open("nowhere.onnx", facemesh_model_default_params()) == NULL, "a missing model opens");
    expect(facemesh_decoder_open("nowhere.json", facemesh_model_default_params()) == NULL, "a missing spec opens");
}

int main(int argc, char **argv) {
    if (argc != 8 && argc != 10) return 2;
    const int width = atoi(argv[4]), height = atoi(argv[5]);
    const double tolerance = atof(argv[7]);
    unsigned char *pixels = read_whole(argv[3], (size_t)width * (size_t)height * 3);
    float *landmarks = read_whole(argv[6], sizeof(float) * 3 * (argc == 10 ? 3 : 1) * FACEMESH_LANDMARKS);
    struct facemesh_model *model = facemesh_model_open(argv[1], facemesh_model_default_params());
    struct facemesh_detector *detector = facemesh_detector_open(argv[2], facemesh_detector_default_params());
    if (!model || !detector) {
        fprintf(stderr, "check_faces: %s\n", facemesh_error());
        return 2;
    }
    struct facemesh_image image = {pixels, width, height, 3 * (ptrdiff_t)width, FACEMESH_BGR};
    struct facemesh_face face = {.vertices = malloc(sizeof(float) * 3 * (size_t)facemesh_vertex_count(model))};

    expect(facemesh_find(model, detector, image, &face, 1) == 1, "not one face");
    printf("%s %s: %.6f px\n", facemesh_version(), facemesh_backends(), distance(&face, landmarks));
    expect(distance(&face, landmarks) <= tolerance, "the landmarks are others");

    if (argc == 10) {
        const float box[4] = {face.box[0], face.box[1], face.box[2], face.box[3]};
        const double off = check_network(argv[8], NULL, image, box, landmarks + 3 * FACEMESH_LANDMARKS);
        const double guided_off = check_network(argv[9], model, image, box, landmarks + 6 * FACEMESH_LANDMARKS);
        printf("coefficients: %.6f px, guided: %.6f px\n", off, guided_off);
        expect(off <= tolerance && guided_off <= tolerance, "the landmarks of coefficients are others");
    }

    struct facemesh_tracker *tracker = facemesh_tracker_new(model, detector, facemesh_tracker_default_params());
    for (int frame = 0; frame < FRAMES; ++frame)
        expect(facemesh_track(tracker, image, frame / 25.0, &face, 1) == 1 && face.track == 1, "the face gets lost");
    facemesh_tracker_free(tracker);

    check_errors(model, image, &face);
    free(face.vertices);
    free(landmarks);
    free(pixels);
    facemesh_detector_free(detector);
    facemesh_model_free(model);
    return failures ? 1 : 0;
}
