#include "models/files.h"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "library/error.h"

namespace facemesh {

bool is_file(const std::string &path) {
    std::error_code error;
    return std::filesystem::is_regular_file(path, error);
}

Bytes read_file(const std::string &path, size_t most_bytes, const std::string &remedy) {
    if (!is_file(path)) throw bad_file(path, "no such file; " + remedy);
    std::error_code error;
    const auto size = std::filesystem::file_size(path, error);
    if (error) throw bad_file(path, "cannot be read (" + error.message() + "); " + remedy);
    if (size > most_bytes) throw bad_file(path, "is longer than " + std::to_string(most_bytes) + " bytes; " + remedy);
    Bytes bytes(size);
    std::ifstream stream(path, std::ios::binary);
    if (!stream.read(reinterpret_cast<char *>(bytes.data()), std::streamsize(size)))
        throw bad_file(path, std::string("cannot be read (") + std::strerror(errno) + "); " + remedy);
    return bytes;
}

std::string beside(const std::string &path, const std::string &name) {
    return (std::filesystem::path(path).parent_path() / name).string();
}

} // namespace facemesh
