// What ends a call of the library: a status of facemesh.h and one line with what is wrong, where, and the remedy.
#pragma once

#include <stdexcept>
#include <string>

#include "include/facemesh.h"

namespace facemesh {

class Error : public std::runtime_error {
  public:
    Error(facemesh_status status, const std::string &message) : std::runtime_error(message), status(status) {}
    const facemesh_status status;
};

inline Error bad_argument(const std::string &message) { return Error(FACEMESH_BAD_ARGUMENT, message); }
inline Error bad_file(const std::string &path, const std::string &message) {
    return Error(FACEMESH_BAD_FILE, path + ": " + message);
}

} // namespace facemesh
