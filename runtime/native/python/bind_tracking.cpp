// Python bindings of what tracking needs: the One-Euro filter, pose and box of landmarks, cuts.
#include "bind_tracking.h"

#include <nanobind/stl/array.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <utility>
#include <vector>

#include "arrays.h"
#include "geometry/pose.h"
#include "tracking/one_euro.h"
#include "tracking/scene.h"
#include "tracking/upright_box.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

using Points = nb::ndarray<float, nb::shape<-1, 3>, nb::c_contig, nb::device::cpu>;

void one_euro(Points points, Points filtered, Points speeds, double dt, double cutoff, double gain,
              double speed_cutoff) {
    require_aligned(points, filtered, speeds);
    const size_t count = points.shape(0);
    require(filtered.shape(0) == count && speeds.shape(0) == count, "one_euro: the three arrays must be as long");
    require(std::isfinite(dt) && dt > 0, "one_euro: dt must be above 0");
    const facemesh::OneEuro settings{float(dt), float(cutoff), float(gain), float(speed_cutoff)};
    nb::gil_scoped_release release;
    facemesh::one_euro(points.data(), filtered.data(), speeds.data(), count, settings);
}

facemesh::PoseEstimator *make_pose_estimator(In<double, nb::shape<68, 3>> canonical) {
    require_aligned(canonical);
    return new facemesh::PoseEstimator(std::vector<double>(canonical.data(), canonical.data() + 3 * 68));
}

using Landmarks = In<float, nb::shape<68, 3>>;

// False for points that are not finite or all the same.
bool has_extent(const Landmarks &landmarks) {
    require_aligned(landmarks);
    bool is_finite = true, is_one_point = true;
    for (int i = 0; i < 3 * 68; ++i) {
        is_finite &= std::isfinite(landmarks.data()[i]);
        is_one_point &= landmarks.data()[i] == landmarks.data()[i % 3];
    }
    return is_finite && !is_one_point;
}

std::optional<std::array<double, 3>> estimate_pose(const facemesh::PoseEstimator &estimator, Landmarks landmarks) {
    if (!has_extent(landmarks)) return std::nullopt;
    const facemesh::Pose pose = estimator(landmarks.data());
    return std::array<double, 3>{pose.yaw_deg, pose.pitch_deg, pose.roll_deg};
}

using Crop = In<double, nb::shape<2, 3>>;

facemesh::Matrix matrix_of(const Crop &crop) {
    require_aligned(crop);
    facemesh::Matrix matrix;
    std::copy_n(crop.data(), matrix.size(), matrix.begin());
    return matrix;
}

// yaw, pitch, roll, the roll in the picture, the roll in the crop; and the box.
std::optional<std::pair<std::array<double, 5>, Floats>> look(const facemesh::PoseEstimator &estimator,
                                                             Landmarks landmarks, Crop crop) {
    if (!has_extent(landmarks)) return std::nullopt;
    const facemesh::Pose pose = estimator(landmarks.data());
    const auto box = facemesh::upright_box(landmarks.data(), landmarks.shape(0), 0);
    float *sides;
    const Floats result = make_floats({box.size()}, &sides);
    std::copy(box.begin(), box.end(), sides);
    return std::make_pair(std::array<double, 5>{pose.yaw_deg, pose.pitch_deg, pose.roll_deg,
                                                facemesh::picture_roll_deg(pose),
                                                facemesh::roll_in_crop_deg(pose, matrix_of(crop))},
                          result);
}

// None for a box that runtime.geometry.boxes.check_box refuses.
template <typename T>
std::optional<nb::ndarray<nb::numpy, double>> crop_matrix(In<T, nb::shape<4>> box, double crop_scale, int size,
                                                          double far) {
    require_aligned(box);
    const facemesh::Box sides{double(box(0)), double(box(1)), double(box(2)), double(box(3))};
    if (!(-far <= sides.x1 && sides.x1 < sides.x2 && sides.x2 <= far && -far <= sides.y1 && sides.y1 < sides.y2 &&
          sides.y2 <= far))
        return std::nullopt;
    const auto matrix = facemesh::CropRule{false, crop_scale, size}(sides);
    double *numbers = new double[matrix.size()];
    std::copy(matrix.begin(), matrix.end(), numbers);
    nb::capsule owner(numbers, [](void *p) noexcept { delete[] static_cast<double *>(p); });
    return nb::ndarray<nb::numpy, double>(numbers, {2, 3}, owner);
}

bool crop_fits(Crop crop, Crop wanted, int side, double most_offset, double most_growth) {
    return facemesh::crop_fits(matrix_of(crop), matrix_of(wanted), side, most_offset, most_growth);
}

std::array<double, 4> upright_box(In<float, nb::shape<-1, 3>> points, double roll) {
    require_aligned(points);
    require(points.shape(0) > 0, "upright_box: there must be a point");
    return facemesh::upright_box(points.data(), points.shape(0), roll);
}

using Grid = nb::ndarray<uint8_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

std::pair<double, double> scene_change(nb::ndarray<const uint8_t, nb::shape<-1, -1, 3>, nb::device::cpu> image,
                                       Grid grid, int change) {
    const int rows = int(grid.shape(0)), columns = int(grid.shape(1));
    require(rows > 0 && columns > 0 && rows <= 64 && columns <= 64, "scene_change: a grid has 1..64 rows and columns");
    require(int64_t(image.shape(0)) >= rows && int64_t(image.shape(1)) >= columns,
            "scene_change: the picture has less pixels than the grid");
    require(image.stride(1) == 3 && image.stride(2) == 1, "scene_change: the pixels of a row must be contiguous");
    uint8_t now[64 * 64];
    facemesh::scene_grid(image.data(), int(image.shape(0)), int(image.shape(1)), image.stride(0), rows, columns, now);
    const auto result = facemesh::scene_change(grid.data(), now, rows * columns, change);
    std::copy_n(now, rows * columns, grid.data());
    return {result.changed, result.likeness};
}

} // namespace

void bind_tracking(nb::module_ &module) {
    module.def("one_euro", &one_euro, "points"_a.noconvert(), "filtered"_a.noconvert(), "speeds"_a.noconvert(), "dt"_a,
               "cutoff"_a, "gain"_a, "speed_cutoff"_a,
               "Filter points (N, 3) float32 px in place; filtered and speeds (N, 3) float32 are its memory.\n\n"
               "See runtime.tracking.one_euro.");
    nb::class_<facemesh::PoseEstimator>(module, "PoseEstimator",
                                        "Landmarks (68, 3) float32 -> [yaw, pitch, roll] in degrees, None for points\n"
                                        "that are not finite or all the same. See runtime.geometry.pose.")
        .def(nb::new_(&make_pose_estimator), "canonical_landmarks"_a.noconvert())
        .def("__call__", &estimate_pose, "landmarks"_a.noconvert())
        .def("look", &look, "landmarks"_a.noconvert(), "matrix"_a.noconvert(),
             "([yaw, pitch, roll, roll in the picture, roll in the crop of matrix (2, 3) float64], box (4,) float32).");
    module.def("crop_matrix", &crop_matrix<float>, "box"_a.noconvert(), "crop_scale"_a, "size"_a, "far"_a,
               "runtime.geometry.crop.crop_matrix (2, 3) float64 of a box (4,) float32 or float64; None for one that\n"
               "is no box or reaches beyond far px.");
    module.def("crop_matrix", &crop_matrix<double>, "box"_a.noconvert(), "crop_scale"_a, "size"_a, "far"_a);
    module.def("crop_fits", &crop_fits, "matrix"_a.noconvert(), "wanted"_a.noconvert(), "side"_a, "most_offset"_a,
               "most_growth"_a,
               "True if a crop of side px by matrix (2, 3) float64 differs from the wanted one by at most a share of\n"
               "the side in place and a factor in scale.");
    module.def("upright_box", &upright_box, "points"_a.noconvert(), "roll"_a,
               "Box [x1, y1, x2, y2] of points (N, 3) float32 after a turn by -roll radians about the origin.");
    module.def("scene_change", &scene_change, "image"_a.noconvert(), "grid"_a.noconvert(), "change"_a,
               "Compare a picture (H, W, 3) uint8 with the grid (rows, columns) uint8 of the one before, and put its\n"
               "own there: share of the pixels that differ by more than change, and correlation of both.");
}
