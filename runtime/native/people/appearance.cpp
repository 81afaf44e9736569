#include "people/appearance.h"

#include <algorithm>
#include <cmath>

namespace facemesh {
namespace {

// Two landmarks each; the places lie between them.
constexpr int PAIRS[][2] = {{17, 27}, {18, 26}, {19, 25}, {20, 24}, {21, 23}, {0, 36},  {16, 45}, {36, 39},
                            {42, 45}, {39, 42}, {37, 19}, {44, 24}, {41, 31}, {46, 35}, {1, 31},  {15, 35},
                            {2, 31},  {14, 35}, {3, 48},  {13, 54}, {27, 41}, {27, 46}, {30, 3},  {30, 13},
                            {31, 48}, {35, 54}, {33, 51}, {48, 54}, {51, 57}, {4, 48},  {12, 54}, {5, 57},
                            {11, 57}, {6, 57},  {10, 57}, {8, 57},  {7, 59},  {9, 55}};
constexpr double SHARES[] = {0.3, 0.5, 0.7};
constexpr double SPREAD = 0.02; // of the face's size: neighbours of a place that are averaged with it
constexpr int OFFSETS[][2] = {{0, 0}, {1, 0}, {-1, 0}, {0, 1}, {0, -1}};
constexpr float NEWS = 0.3f; // share of a new look in an appearance

// Adds a bilinear sample; beyond the border its pixels go on.
void add_sample(const Picture &picture, double x, double y, double *colours) {
    x = std::clamp(x, 0.0, picture.width - 1.0);
    y = std::clamp(y, 0.0, picture.height - 1.0);
    const int left = int(x), top = int(y), right = std::min(left + 1, picture.width - 1),
              bottom = std::min(top + 1, picture.height - 1);
    const uint8_t *upper = picture.pixels + top * picture.row_stride,
                  *lower = picture.pixels + bottom * picture.row_stride;
    for (int c = 0; c < 3; ++c) {
        const double first = upper[3 * left + c] + (x - left) * (upper[3 * right + c] - upper[3 * left + c]);
        const double second = lower[3 * left + c] + (x - left) * (lower[3 * right + c] - lower[3 * left + c]);
        colours[c] += first + (y - top) * (second - first);
    }
}

} // namespace

Appearance appearance_of(const Picture &picture, const float *landmarks, double size) {
    Appearance vector;
    double mean = 0;
    for (const auto &pair : PAIRS)
        for (double share : SHARES) {
            const float *first = landmarks + 3 * pair[0], *second = landmarks + 3 * pair[1];
            const double x = (1 - share) * first[0] + share * second[0], y = (1 - share) * first[1] + share * second[1];
            double colours[3] = {};
            for (const auto &offset : OFFSETS)
                add_sample(picture, x + SPREAD * size * offset[0], y + SPREAD * size * offset[1], colours);
            for (double colour : colours) {
                vector.push_back(float(colour / std::size(OFFSETS)));
                mean += vector.back();
            }
        }
    mean /= double(vector.size());
    double square = 0;
    for (float &number : vector) {
        number -= float(mean);
        square += double(number) * number;
    }
    const double length = std::sqrt(square);
    if (!(length > 1)) return {}; // a face of one colour has none
    for (float &number : vector) number /= float(length);
    return vector;
}

Appearance blend(const Appearance &old, const Appearance &now) {
    if (old.empty() || now.empty()) return old.empty() ? now : old;
    Appearance vector(old.size());
    double square = 0;
    for (size_t i = 0; i < vector.size(); ++i) {
        vector[i] = (1 - NEWS) * old[i] + NEWS * now[i];
        square += double(vector[i]) * vector[i];
    }
    for (float &number : vector) number /= float(std::sqrt(square));
    return vector;
}

double difference(const Appearance &first, const Appearance &second) {
    if (first.empty() || second.empty()) return 0;
    double product = 0;
    for (size_t i = 0; i < first.size(); ++i) product += double(first[i]) * second[i];
    return 1 - product;
}

} // namespace facemesh
