#include "models/files.h"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <unistd.h>

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

bool write_whole(const std::string &path, const void *data, size_t size) {
    const std::string part = path + "." + std::to_string(getpid()) + ".part";
    std::error_code error;
    {
        std::ofstream stream(part, std::ios::binary);
        stream.write(static_cast<const char *>(data), std::streamsize(size)).flush();
        if (!stream) error = std::make_error_code(std::errc::io_error);
    }
    if (!error) std::filesystem::rename(part, path, error);
    std::error_code ignored;
    if (error) std::filesystem::remove(part, ignored);
    return !error;
}

std::string name_of(const std::string &path) { return std::filesystem::path(path).filename().string(); }

std::string beside(const std::string &path, const std::string &name) {
    return (std::filesystem::path(path).parent_path() / name).string();
}

} // namespace facemesh
