// Whole files in memory, and their paths.
#pragma once

#include <string>
#include <vector>

namespace facemesh {

using Bytes = std::vector<unsigned char>;

// Throws Error for a file that is missing, cannot be read, or is longer than `most_bytes`; `remedy` ends its line.
Bytes read_file(const std::string &path, size_t most_bytes, const std::string &remedy);

bool is_file(const std::string &path);

// Writes a file whole or not at all; false where it cannot be written.
bool write_whole(const std::string &path, const void *data, size_t size);

// The name of a file without its folder.
std::string name_of(const std::string &path);

// `name` from the folder of the file `path`; an absolute name stays as it is.
std::string beside(const std::string &path, const std::string &name);

} // namespace facemesh
