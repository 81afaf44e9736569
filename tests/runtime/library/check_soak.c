/* Open and close libfacemesh again and again, then track a face for many frames; memory, open files and threads must
 * stay as in the first half: check_soak MODEL YUNET PICTURE WIDTH HEIGHT OPENS FRAMES
 * What is freed goes back to the system before memory is read: by itself it does so now and then, 20 MB at a time.
 * PICTURE: WIDTH x HEIGHT pixels of three bytes BGR, with one face. */
#include <dirent.h>
#include <facemesh.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>

#define TOLERATED_KB 1024

struct held {
    long memory_kb;
    int files, threads;
};

static int entries(const char *folder) {
    int count = 0;
    DIR *open_folder = opendir(folder);
    if (!open_folder) exit(2);
    while (readdir(open_folder)) ++count;
    closedir(open_folder);
    return count;
}

static struct held held_now(void) {
    struct held held = {0, entries("/proc/self/fd"), entries("/proc/self/task")};
    long pages;
    malloc_trim(0);
    FILE *file = fopen("/proc/self/statm", "r");
    if (!file || fscanf(file, "%*d %ld", &pages) != 1) exit(2);
    fclose(file);
    held.memory_kb = pages * 4;
    return held;
}

static struct held most(struct held a, struct held b) {
    const struct held both = {
        a.memory_kb > b.memory_kb ? a.memory_kb : b.memory_kb,
        a.files > b.files ? a.files : b.files,
        a.threads > b.threads ? a.threads : b.threads,
    };
    return both;
}

static int has_grown(const char *what, int count, struct held first, struct held last) {
    printf("%d %s: %ld kB, %d files, %d threads; at the end %ld kB, %d files, %d threads\n", count, what,
           first.memory_kb, first.files, first.threads, last.memory_kb, last.files, last.threads);
    return last.memory_kb > first.memory_kb + TOLERATED_KB || last.files > first.files || last.threads > first.threads;
}

int main(int argc, char **argv) {
    if (argc != 8) return 2;
    const int width = atoi(argv[4]), height = atoi(argv[5]), opens = atoi(argv[6]), frames = atoi(argv[7]);
    const size_t size = (size_t)width * (size_t)height * 3;
    unsigned char *pixels = malloc(size);
    FILE *picture = fopen(argv[3], "rb");
    if (!pixels || !picture || fread(pixels, 1, size, picture) != size) return 2;
    fclose(picture);
    const struct facemesh_image image = {pixels, width, height, 3 * (ptrdiff_t)width, FACEMESH_BGR};
    struct facemesh_face face = {.vertices = NULL};
    const struct held none = {0, 0, 0};
    struct held halves[2] = {none, none};
    int failures = 0;

    for (int number = 0; number < opens; ++number) {
        struct facemesh_model *model = facemesh_model_open(argv[1], facemesh_model_default_params());
        struct facemesh_detector *detector = facemesh_detector_open(argv[2], facemesh_detector_default_params());
        if (!model || !detector || facemesh_find(model, detector, image, &face, 1) != 1) return 2;
        facemesh_detector_free(detector);
        facemesh_model_free(model);
        struct held *half = &halves[number >= opens / 2];
        *half = most(*half, held_now());
    }
    failures += has_grown("opens", opens, halves[0], halves[1]);

    struct facemesh_model *model = facemesh_model_open(argv[1], facemesh_model_default_params());
    struct facemesh_detector *detector = facemesh_detector_open(argv[2], facemesh_detector_default_params());
    struct facemesh_tracker *tracker = facemesh_tracker_new(model, detector, facemesh_tracker_default_params());
    face.vertices = malloc(sizeof(float) * 3 * (size_t)facemesh_vertex_count(model));
    halves[0] = halves[1] = none;
    for (int number = 0; number < frames; ++number) {
        if (facemesh_track(tracker, image, number / 25.0, &face, 1) != 1) return 2;
        struct held *half = &halves[number >= frames / 2];
        *half = most(*half, held_now());
    }
    failures += has_grown("frames", frames, halves[0], halves[1]);
    facemesh_tracker_free(tracker);
    facemesh_detector_free(detector);
    facemesh_model_free(model);
    free(face.vertices);
    free(pixels);
    return failures ? 1 : 0;
}
