#include "models/sha256.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>

namespace facemesh {
namespace {

constexpr int ROUNDS = 64;
constexpr size_t BLOCK = 64; // bytes

using State = std::array<uint32_t, 8>;

struct Constants {
    State start;                          // fractions of the square roots of the first primes
    std::array<uint32_t, ROUNDS> round{}; // and of the cube roots
    Constants() {
        int found = 0;
        for (int number = 2; found < ROUNDS; ++number) {
            bool is_prime = true;
            for (int divisor = 2; divisor * divisor <= number; ++divisor) is_prime &= number % divisor != 0;
            if (!is_prime) continue;
            round[size_t(found)] = fraction(std::cbrt(static_cast<long double>(number)));
            if (found < 8) start[size_t(found)] = fraction(std::sqrt(static_cast<long double>(number)));
            ++found;
        }
    }
    static uint32_t fraction(long double root) { return uint32_t((root - std::floor(root)) * 4294967296.0L); }
};

uint32_t turned(uint32_t word, int bits) { return word >> bits | word << (32 - bits); }

void digest(const unsigned char *block, const Constants &constants, State &state) {
    std::array<uint32_t, ROUNDS> words;
    for (size_t i = 0; i < 16; ++i)
        words[i] = uint32_t(block[4 * i]) << 24 | uint32_t(block[4 * i + 1]) << 16 | uint32_t(block[4 * i + 2]) << 8 |
                   block[4 * i + 3];
    for (size_t i = 16; i < ROUNDS; ++i) {
        const uint32_t a = words[i - 15], b = words[i - 2];
        words[i] = words[i - 16] + words[i - 7] + (turned(a, 7) ^ turned(a, 18) ^ a >> 3) +
                   (turned(b, 17) ^ turned(b, 19) ^ b >> 10);
    }
    auto [a, b, c, d, e, f, g, h] = state;
    for (size_t i = 0; i < ROUNDS; ++i) {
        const uint32_t first =
            h + (turned(e, 6) ^ turned(e, 11) ^ turned(e, 25)) + ((e & f) ^ (~e & g)) + constants.round[i] + words[i];
        const uint32_t second = (turned(a, 2) ^ turned(a, 13) ^ turned(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
        h = g, g = f, f = e, e = d + first, d = c, c = b, b = a, a = first + second;
    }
    const State sum{a, b, c, d, e, f, g, h};
    for (size_t i = 0; i < 8; ++i) state[i] += sum[i];
}

} // namespace

std::string sha256(const unsigned char *data, size_t size) {
    static const Constants constants;
    State state = constants.start;
    size_t done = 0;
    for (; done + BLOCK <= size; done += BLOCK) digest(data + done, constants, state);

    // A bit, zeros, and the length in bits.
    std::array<unsigned char, 2 * BLOCK> rest{};
    const size_t left = size - done, length = left + 9 <= BLOCK ? BLOCK : 2 * BLOCK;
    std::copy_n(data + done, left, rest.begin());
    rest[left] = 0x80;
    for (size_t i = 0; i < 8; ++i) rest[length - 1 - i] = static_cast<unsigned char>(uint64_t(size) * 8 >> (8 * i));
    for (size_t start = 0; start < length; start += BLOCK) digest(rest.data() + start, constants, state);

    std::string digits;
    for (uint32_t word : state)
        for (int shift = 28; shift >= 0; shift -= 4) digits += "0123456789abcdef"[word >> shift & 15];
    return digits;
}

} // namespace facemesh
