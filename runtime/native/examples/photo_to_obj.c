/* A JPEG in, the mesh of its first face out: photo_to_obj MODEL DETECTOR PHOTO.jpg MESH.obj */
#include <facemesh.h>
#include <stdio.h>
#include <stdlib.h>

#include <jpeglib.h>

static int fail(const char *what) {
    fprintf(stderr, "photo_to_obj: %s\n", what);
    return EXIT_FAILURE;
}

/* Reads a whole JPEG; libjpeg itself ends the program for a damaged one. */
static struct facemesh_image read_jpeg(FILE *file) {
    struct jpeg_decompress_struct jpeg;
    struct jpeg_error_mgr errors;
    jpeg.err = jpeg_std_error(&errors);
    jpeg_create_decompress(&jpeg);
    jpeg_stdio_src(&jpeg, file);
    jpeg_read_header(&jpeg, TRUE);
    jpeg.out_color_space = JCS_RGB;
    jpeg_start_decompress(&jpeg);
    struct facemesh_image image = {NULL, (int)jpeg.output_width, (int)jpeg.output_height,
                                   3 * (ptrdiff_t)jpeg.output_width, FACEMESH_RGB};
    unsigned char *pixels = malloc((size_t)image.row_bytes * jpeg.output_height);
    while (pixels && jpeg.output_scanline < jpeg.output_height) {
        JSAMPROW row = pixels + image.row_bytes * jpeg.output_scanline;
        jpeg_read_scanlines(&jpeg, &row, 1);
    }
    image.pixels = pixels;
    jpeg_destroy_decompress(&jpeg);
    return image;
}

int main(int argc, char **argv) {
    if (argc != 5) return fail("give MODEL.onnx YUNET.onnx PHOTO.jpg MESH.obj");
    struct facemesh_model *model = facemesh_model_open(argv[1], facemesh_model_default_params());
    if (!model) return fail(facemesh_error());
    fputs(facemesh_warnings(model), stderr);
    struct facemesh_detector *detector = facemesh_detector_open(argv[2], facemesh_detector_default_params());
    if (!detector) return fail(facemesh_error());
    FILE *file = fopen(argv[3], "rb");
    if (!file) return fail("the photo cannot be opened; check the path");
    struct facemesh_image image = read_jpeg(file);
    fclose(file);

    struct facemesh_face face = {.vertices = malloc(sizeof(float) * 3 * (size_t)facemesh_vertex_count(model))};
    int found = facemesh_find(model, detector, image, &face, 1);
    if (found < 0) return fail(facemesh_error());
    if (found == 0) return fail("no face in the photo");
    printf("score %.2f, yaw %.0f, pitch %.0f, roll %.0f degrees\n", face.score, face.yaw, face.pitch, face.roll);

    FILE *mesh = fopen(argv[4], "w");
    if (!mesh) return fail("the mesh cannot be written; check its folder");
    const float *v = face.vertices;
    for (int i = 0; i < facemesh_vertex_count(model); ++i, v += 3) fprintf(mesh, "v %g %g %g\n", v[0], -v[1], v[2]);
    const int32_t *t = facemesh_triangles(model); /* y turns over, and the corners with it */
    for (int i = 0; i < facemesh_triangle_count(model); ++i, t += 3)
        fprintf(mesh, "f %d %d %d\n", t[0] + 1, t[2] + 1, t[1] + 1);
    if (fclose(mesh) != 0) return fail("the mesh cannot be written; is the disk full?");

    free(face.vertices);
    free((void *)image.pixels);
    facemesh_detector_free(detector);
    facemesh_model_free(model);
    return EXIT_SUCCESS;
}
