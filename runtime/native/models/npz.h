// Arrays of an .npz file: a zip of .npy files, stored or deflated.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace facemesh {

struct Array {
    std::vector<int64_t> shape;
    bool is_whole;              // integers
    std::vector<double> values; // in C order; every int32 and float32 is exact
};

// The arrays by name. Throws Error for a file that is missing, damaged, or holds other types than int32, int64,
// float32 and float64.
std::map<std::string, Array> load_npz(const std::string &path);

} // namespace facemesh
