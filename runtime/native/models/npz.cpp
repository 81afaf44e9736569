#include "models/npz.h"

#include <zlib.h>

#include <algorithm>
#include <cstring>

#include "library/error.h"
#include "models/files.h"

namespace facemesh {
namespace {

constexpr size_t MOST_FILE_BYTES = size_t(256) << 20, MOST_ARRAY_BYTES = size_t(512) << 20;
constexpr uint32_t LOCAL_ENTRY = 0x04034b50, DIRECTORY_ENTRY = 0x02014b50, END_OF_DIRECTORY = 0x06054b50;
const char *const REMEDY = "get the file again";

// Little-endian numbers at places that a damaged file may make up.
class Reader {
  public:
    Reader(const unsigned char *data, size_t size, const std::string &path) : data_(data), size_(size), path_(path) {}

    template <typename T> T number(size_t place) const {
        T value;
        std::memcpy(&value, range(place, sizeof value), sizeof value);
        return value;
    }

    const unsigned char *range(size_t place, size_t length) const {
        if (place > size_ || length > size_ - place) throw damaged("it ends too early");
        return data_ + place;
    }

    size_t size() const { return size_; }
    Error damaged(const std::string &fault) const { return bad_file(path_, "is damaged: " + fault + "; " + REMEDY); }

  private:
    const unsigned char *data_;
    size_t size_;
    const std::string &path_;
};

Bytes inflated(const unsigned char *data, size_t size, size_t wanted, const Reader &file) {
    Bytes bytes(wanted);
    z_stream stream{};
    stream.next_in = const_cast<unsigned char *>(data);
    stream.avail_in = uInt(size);
    stream.next_out = bytes.data();
    stream.avail_out = uInt(wanted);
    if (inflateInit2(&stream, -MAX_WBITS) != Z_OK) throw file.damaged("zlib does not start");
    const int outcome = inflate(&stream, Z_FINISH);
    inflateEnd(&stream);
    if (outcome != Z_STREAM_END || stream.total_out != wanted) throw file.damaged("an entry cannot be inflated");
    return bytes;
}

template <typename T> void convert(const unsigned char *data, Array &array) {
    for (size_t i = 0; i < array.values.size(); ++i) {
        T value;
        std::memcpy(&value, data + i * sizeof value, sizeof value);
        array.values[i] = double(value);
    }
}

// The text after `name` from `first` to `last`, both included; "" if there is none.
std::string between(const std::string &text, const char *name, char first, char last) {
    const size_t place = text.find(name);
    const size_t start = place == std::string::npos ? place : text.find(first, place + std::strlen(name));
    const size_t end = start == std::string::npos ? start : text.find(last, start + 1);
    return end == std::string::npos ? "" : text.substr(start, end + 1 - start);
}

std::string quoted_after(const std::string &text, const char *name) {
    const std::string found = between(text, name, '\'', '\'');
    return found.size() < 2 ? "" : found.substr(1, found.size() - 2);
}

std::string enclosed_after(const std::string &text, const char *name) { return between(text, name, '(', ')'); }

// The .npy format of NumPy: magic, version, length of the header, a Python dict as text, the numbers.
Array parse_npy(const Bytes &bytes, const std::string &path) {
    const Reader reader(bytes.data(), bytes.size(), path);
    if (std::memcmp(reader.range(0, 8), "\x93NUMPY", 6) != 0) throw reader.damaged("an entry is no .npy");
    const bool is_long = reader.number<uint8_t>(6) > 1;
    const size_t length = is_long ? reader.number<uint32_t>(8) : reader.number<uint16_t>(8), start = is_long ? 12 : 10;
    const std::string header(reinterpret_cast<const char *>(reader.range(start, length)), length);
    const std::string type = quoted_after(header, "'descr':"), sides = enclosed_after(header, "'shape':");
    const bool is_known = type == "<i4" || type == "<i8" || type == "<f4" || type == "<f8";
    if (!is_known || header.find("'fortran_order': False") == std::string::npos || sides.empty())
        throw reader.damaged("an array is not of int or float in C order");

    Array array;
    size_t count = 1, place = 0;
    while ((place = sides.find_first_of("0123456789", place)) != std::string::npos) {
        const size_t end = std::min(sides.find_first_not_of("0123456789", place), sides.size());
        if (end - place > 9) throw reader.damaged("an array is too large");
        array.shape.push_back(std::stol(sides.substr(place, end - place)));
        if (array.shape.back() > 0 && count > MOST_ARRAY_BYTES / size_t(array.shape.back()))
            throw reader.damaged("an array is too large");
        count *= size_t(array.shape.back());
        place = end;
    }
    const unsigned char *data = reader.range(start + length, count * (type[2] == '4' ? 4 : 8));
    array.is_whole = type[1] == 'i';
    array.values.resize(count);
    if (type == "<i4") convert<int32_t>(data, array);
    if (type == "<i8") convert<int64_t>(data, array);
    if (type == "<f4") convert<float>(data, array);
    if (type == "<f8") convert<double>(data, array);
    return array;
}

size_t find_directory(const Reader &file) {
    if (file.size() >= 22)
        for (size_t place = file.size() - 22; place + 65557 >= file.size(); --place) {
            if (file.number<uint32_t>(place) == END_OF_DIRECTORY) return place;
            if (place == 0) break;
        }
    throw file.damaged("it is no zip");
}

} // namespace

std::map<std::string, Array> load_npz(const std::string &path) {
    const Bytes bytes = read_file(path, MOST_FILE_BYTES, "it comes with the model: keep both in one folder");
    const Reader file(bytes.data(), bytes.size(), path);
    const size_t end = find_directory(file);
    const int count = file.number<uint16_t>(end + 10);
    size_t place = file.number<uint32_t>(end + 16);
    std::map<std::string, Array> arrays;
    for (int entry = 0; entry < count; ++entry) {
        if (file.number<uint32_t>(place) != DIRECTORY_ENTRY) throw file.damaged("its directory is wrong");
        const int method = file.number<uint16_t>(place + 10);
        const size_t packed = file.number<uint32_t>(place + 20), size = file.number<uint32_t>(place + 24);
        const size_t name_length = file.number<uint16_t>(place + 28), local = file.number<uint32_t>(place + 42);
        std::string name(reinterpret_cast<const char *>(file.range(place + 46, name_length)), name_length);
        place += 46 + name_length + file.number<uint16_t>(place + 30) + file.number<uint16_t>(place + 32);

        if (file.number<uint32_t>(local) != LOCAL_ENTRY) throw file.damaged("an entry is not where it should be");
        const size_t start = local + 30 + file.number<uint16_t>(local + 26) + file.number<uint16_t>(local + 28);
        const unsigned char *data = file.range(start, packed);
        if (size > MOST_ARRAY_BYTES || (method == 0 && size != packed) || (method != 0 && method != 8))
            throw file.damaged("an entry has an unknown form");
        const Bytes content = method == 0 ? Bytes(data, data + size) : inflated(data, packed, size, file);
        if (name.size() > 4 && name.substr(name.size() - 4) == ".npy") name.resize(name.size() - 4);
        arrays[name] = parse_npy(content, path);
    }
    return arrays;
}

} // namespace facemesh
