/* Opens decoders by files that may be damaged, and decodes with those that open. Every line of the input is the path of
 * a spec, a tab, and that of its topology or face model; the answer is "opens", or the line of the error. */
#include <facemesh.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void use(struct facemesh_model *model) {
    const double matrix[6] = {0.5, 0, 3, 0, 0.5, 4};
    const size_t count = facemesh_output_count(model);
    float *output = malloc(count * sizeof(float));
    struct facemesh_face face = {.vertices = malloc(3 * sizeof(float) * (size_t)facemesh_vertex_count(model))};
    if (!output || !face.vertices) exit(2);
    for (size_t i = 0; i < count; ++i) output[i] = (float)(i % 7) / 7;
    facemesh_decode(model, output, matrix, &face); /* some have no extent, or numbers beyond all bounds */
    const int32_t *triangles = facemesh_triangles(model), *landmarks = facemesh_landmark_vertices(model);
    const float *uv = facemesh_texture_coordinates(model);
    double sum = 0;
    for (int i = 0; i < 3 * facemesh_triangle_count(model); ++i)
        sum += (double)face.vertices[3 * triangles[i]] + (double)uv[2 * triangles[i]];
    for (int i = 0; i < FACEMESH_LANDMARKS; ++i) sum += (double)face.vertices[3 * landmarks[i] + 2];
    if (sum == 1e300) puts("");
    free(face.vertices);
    free(output);
}

int main(void) {
    static char line[8192];
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = '\0';
        char *topology = strchr(line, '\t');
        if (!topology) return 2;
        *topology++ = '\0';
        struct facemesh_model_params params = facemesh_model_default_params();
        params.topology = topology;
        struct facemesh_model *model = facemesh_decoder_open(line, params);
        if (model) use(model);
        puts(model ? "opens" : facemesh_error());
        facemesh_model_free(model);
    }
    return 0;
}
