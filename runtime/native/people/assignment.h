// The cheapest assignment of rows to columns: see runtime/tracking/assignment.py.
#pragma once

#include <utility>
#include <vector>

namespace facemesh {

// Pairs (row, column) with the least sum of costs, (rows, columns) in one piece; every pair costs less than `most`.
std::vector<std::pair<int, int>> assign(const std::vector<double> &costs, int rows, int columns, double most);

} // namespace facemesh
