// Python bindings of what tracking needs: the One-Euro filter, rotation and box of landmarks.
#include "bind_tracking.h"

#include <nanobind/stl/array.h>
#include <nanobind/stl/optional.h>

#include <array>
#include <cmath>
#include <optional>

#include "arrays.h"
#include "cpu/landmarks.h"
#include "cpu/one_euro.h"

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

std::optional<facemesh::Matrix3> fit_rotation(In<double, nb::shape<-1, 3>> points,
                                               In<double, nb::shape<-1, 3>> weighted) {
    require_aligned(points, weighted);
    require(points.shape(0) > 0 && points.shape(0) == weighted.shape(0), "fit_rotation: both need as many points");
    facemesh::Matrix3 rotation;
    if (!facemesh::fit_rotation(points.data(), weighted.data(), points.shape(0), rotation)) return std::nullopt;
    return rotation;
}

std::array<double, 4> upright_box(In<float, nb::shape<-1, 3>> points, double roll) {
    require_aligned(points);
    require(points.shape(0) > 0, "upright_box: there must be a point");
    return facemesh::upright_box(points.data(), points.shape(0), roll);
}

} // namespace

void bind_tracking(nb::module_ &module) {
    module.def("one_euro", &one_euro, "points"_a.noconvert(), "filtered"_a.noconvert(), "speeds"_a.noconvert(), "dt"_a,
               "cutoff"_a, "gain"_a, "speed_cutoff"_a,
               "Filter points (N, 3) float32 px in place; filtered and speeds (N, 3) float32 are its memory.\n\n"
               "See runtime.tracking.one_euro.");
    module.def("fit_rotation", &fit_rotation, "points"_a.noconvert(), "weighted"_a.noconvert(),
               "Rows of the rotation from reference points to points (N, 3) float64, None for points that are not\n"
               "finite or all the same. weighted: the reference, centred, times the weights.");
    module.def("upright_box", &upright_box, "points"_a.noconvert(), "roll"_a,
               "Box [x1, y1, x2, y2] of points (N, 3) float32 after a turn by -roll radians about the origin.");
}
