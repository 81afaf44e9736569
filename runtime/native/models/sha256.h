// SHA-256 (FIPS 180-4), for the digest by which a spec names its model.
#pragma once

#include <cstddef>
#include <string>

namespace facemesh {

// 64 hexadecimal digits.
std::string sha256(const unsigned char *data, size_t size);

} // namespace facemesh
