// Python bindings of what the host does beside a GPU, or instead of it.
#include "bind_frame_parts.h"

#include <nanobind/stl/tuple.h>

#include <cstring>
#include <tuple>
#include <vector>

#include "arrays.h"
#include "cpu/frame_parts.h"
#include "detection/rows.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

std::tuple<int, int, int, int> crop_region(In<double, nb::shape<2, 3>> matrix, int size, int height, int width) {
    require_aligned(matrix);
    require(size > 0 && height > 0 && width > 0, "crop_region: the sides must be positive");
    facemesh::Region region;
    require(facemesh::crop_region(matrix.data(), size, height, width, region),
            "the crop matrix is singular or not finite");
    return {region.first_row, region.end_row, region.first_column, region.end_column};
}

constexpr size_t ROW = sizeof(facemesh::YuNetRow) / sizeof(float);

Floats best_faces(In<float, nb::shape<-1, -1>> rows, double score_threshold) {
    require_aligned(rows);
    require(rows.shape(1) == ROW, "best_faces: rows must be (N, 15)");
    facemesh::RowSelector selector{float(score_threshold)};
    for (size_t i = 0; i < rows.shape(0); ++i) {
        facemesh::YuNetRow row;
        std::memcpy(&row, rows.data() + ROW * i, sizeof row);
        selector.add(row);
    }
    std::vector<facemesh::YuNetRow> kept;
    selector.select(kept);
    float *numbers;
    const Floats result = make_floats({kept.size(), ROW}, &numbers);
    if (!kept.empty()) std::memcpy(numbers, kept.data(), kept.size() * sizeof kept[0]);
    return result;
}

} // namespace

void bind_frame_parts(nb::module_ &module) {
    module.def("crop_region", &crop_region, "matrix"_a.noconvert(), "size"_a, "height"_a, "width"_a,
               "First row, end, first column, end of a (height, width) frame under a crop of size px, with a pixel to\n"
               "spare. matrix: (2, 3) float64, frame px -> crop px. Raises ValueError if it is singular or not\n"
               "finite.");
    module.def("best_faces", &best_faces, "rows"_a.noconvert(), "score_threshold"_a,
               "Of YuNet's rows (N, 15) float32 those with a better score than the threshold, best first; of rows\n"
               "that overlap, the best, and of equally good ones the first.");
}
