// Arrays of an .npz file: a zip of .npy files, stored or deflated. See runtime/storage/npz_files.py.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "models/files.h"

namespace facemesh {

struct Array {
    std::vector<int64_t> shape;
    char kind = 'f'; // as NumPy has it: b, i, u and f are numbers, U is text
    int item = 4;    // bytes of one
    Bytes bytes;     // in C order, in the machine's order of bytes

    size_t count() const { return item ? bytes.size() / size_t(item) : 0; }
    bool is_whole() const { return kind == 'i' || kind == 'u'; }
    bool is_int8() const { return kind == 'i' && item == 1; }
    std::string type() const;       // "float32"
    std::string shape_text() const; // "(53215, 3)"

    // -1 fits any length.
    bool has_shape(const std::vector<int64_t> &wanted) const;

    double at(size_t place) const; // of numbers
    std::vector<float> floats() const;
    std::vector<double> doubles() const;
};

using Arrays = std::map<std::string, Array>;

// The arrays of the names, as far as they are there. Throws Error for a file that is missing, damaged, or claims more
// than it holds; `remedy` ends its line.
Arrays load_npz(const std::string &path, const std::vector<std::string> &names, const std::string &remedy);

// A shape in words: "(53215, -1)".
std::string shape_text(const std::vector<int64_t> &shape);

} // namespace facemesh
