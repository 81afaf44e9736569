// Python binding of the One-Euro filter.
#include "bind_one_euro.h"

#include <cmath>

#include "arrays.h"
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

} // namespace

void bind_one_euro(nb::module_ &module) {
    module.def("one_euro", &one_euro, "points"_a.noconvert(), "filtered"_a.noconvert(), "speeds"_a.noconvert(), "dt"_a,
               "cutoff"_a, "gain"_a, "speed_cutoff"_a,
               "Filter points (N, 3) float32 px in place; filtered and speeds (N, 3) float32 are its memory.\n\n"
               "See runtime.tracking.one_euro.");
}
