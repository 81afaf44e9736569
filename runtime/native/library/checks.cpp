#include "library/checks.h"

#include <cmath>
#include <cstdio>
#include <cstring>

#include "library/error.h"

namespace facemesh {
namespace {

constexpr int MOST_SIDE = 65535, MOST_FACES = 1 << 16;
constexpr double LEAST_SIDE_PX = 1e-3; // a crop of less is no picture

template <typename... Numbers> std::string formatted(const char *form, Numbers... numbers) {
    char text[200];
    std::snprintf(text, sizeof text, form, numbers...);
    return text;
}

// The number behind an enum of the caller's: C++ gives no meaning to a value that is none of its names.
template <typename Enum> int number_of(const Enum &value) {
    int number;
    static_assert(sizeof number == sizeof value);
    std::memcpy(&number, &value, sizeof number);
    return number;
}

} // namespace

void need(const void *pointer, const char *name) {
    if (pointer == nullptr) throw bad_argument(std::string(name) + " is NULL; hand over what the header asks for");
}

void need_path(const char *path, const char *name) {
    need(path, name);
    if (*path == '\0') throw bad_argument(std::string(name) + " is empty; give the path of a file");
}

Picture checked(const facemesh_image &image) {
    need(image.pixels, "image.pixels");
    if (image.width < 1 || image.height < 1 || image.width > MOST_SIDE || image.height > MOST_SIDE)
        throw bad_argument(formatted("image: %d x %d px is no size of a picture; give 1..%d px per side", image.width,
                                     image.height, MOST_SIDE));
    if (image.row_bytes < 3 * ptrdiff_t(image.width))
        throw bad_argument(formatted("image: row_bytes is %td for %d px of three bytes; give %d or more",
                                     image.row_bytes, image.width, 3 * image.width));
    const int colours = number_of(image.colours);
    if (colours != FACEMESH_BGR && colours != FACEMESH_RGB)
        throw bad_argument(formatted("image: colours is %d; give FACEMESH_BGR or FACEMESH_RGB", colours));
    return {image.pixels, image.height, image.width, image.row_bytes, colours == FACEMESH_RGB};
}

void check_box(const float *box) {
    if (is_box({box[0], box[1], box[2], box[3]})) return;
    const std::string name = formatted("box %g,%g,%g,%g: ", box[0], box[1], box[2], box[3]);
    for (int i = 0; i < 4; ++i)
        if (!(std::fabs(box[i]) <= MOST_COORDINATE))
            throw bad_argument(name + "not a box, not finite or far off; give x1,y1,x2,y2 in pixels of the picture");
    throw bad_argument(name + "not a box, reversed or empty; give x1,y1,x2,y2 in pixels with x1 < x2 and y1 < y2");
}

void check_box(const float *box, const Picture &picture) {
    check_box(box);
    if (double(box[2]) - box[0] < LEAST_SIDE_PX || double(box[3]) - box[1] < LEAST_SIDE_PX)
        throw bad_argument(formatted("box %g,%g,%g,%g: under %g px wide or high; give x1,y1,x2,y2 in pixels of the "
                                     "picture",
                                     box[0], box[1], box[2], box[3], LEAST_SIDE_PX));
    if (box[0] >= picture.width || box[1] >= picture.height || box[2] <= -1 || box[3] <= -1)
        throw bad_argument(formatted("box %g,%g,%g,%g: lies outside the picture of %d x %d; boxes are in pixels of the "
                                     "picture as it is shown",
                                     box[0], box[1], box[2], box[3], picture.width, picture.height));
}

Matrix checked_matrix(const double *numbers) {
    need(numbers, "matrix");
    Matrix matrix;
    for (int i = 0; i < 6; ++i) matrix[size_t(i)] = numbers[i];
    if (!is_sound(matrix))
        throw bad_argument("matrix: singular, extreme or not finite; facemesh_crop_matrix() makes one from a box");
    return matrix;
}

void check_count(int count, const char *name) {
    if (count < 0 || count > MOST_FACES)
        throw bad_argument(std::string(name) + " is " + std::to_string(count) + "; give 0..65536");
}

} // namespace facemesh
