#include "models/npz.h"

#include <zlib.h>

#include <algorithm>
#include <cstring>

#include "gpu/half.h"
#include "library/error.h"

namespace facemesh {
namespace {

constexpr size_t MOST_FILE_BYTES = size_t(1) << 30, SMALL_BYTES = size_t(64) << 20, MOST_EXPANSION = 100;
constexpr size_t MOST_AXES = 32;
constexpr uint32_t LOCAL_ENTRY = 0x04034b50, DIRECTORY_ENTRY = 0x02014b50, END_OF_DIRECTORY = 0x06054b50;

// Little-endian numbers at places that a damaged file may make up.
class Reader {
  public:
    Reader(const unsigned char *data, size_t size, const std::string &path, const std::string &remedy)
        : data_(data), size_(size), path_(path), remedy_(remedy) {}

    template <typename T> T number(size_t place) const {
        T value;
        std::memcpy(&value, range(place, sizeof value), sizeof value);
        return value;
    }

    const unsigned char *range(size_t place, size_t length) const {
        if (place > size_ || length > size_ - place) throw damaged("it ends too early");
        return data_ + place;
    }

    // Of the bytes of an entry.
    Reader within(const Bytes &bytes) const { return Reader(bytes.data(), bytes.size(), path_, remedy_); }

    size_t size() const { return size_; }
    Error damaged(const std::string &fault) const { return bad_file(path_, "is damaged: " + fault + "; " + remedy_); }

  private:
    const unsigned char *data_;
    size_t size_;
    const std::string &path_, &remedy_;
};

struct Entry {
    std::string name; // of the array
    int method;
    uint32_t checksum;
    size_t packed, size, local;
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

Bytes content_of(const Entry &entry, const Reader &file) {
    if (file.number<uint32_t>(entry.local) != LOCAL_ENTRY) throw file.damaged("an entry is not where it should be");
    const size_t names = file.number<uint16_t>(entry.local + 26), extras = file.number<uint16_t>(entry.local + 28);
    const unsigned char *data = file.range(entry.local + 30 + names + extras, entry.packed);
    Bytes bytes = entry.method == 0 ? Bytes(data, data + entry.size) : inflated(data, entry.packed, entry.size, file);
    if (crc32(0, bytes.data(), uInt(bytes.size())) != entry.checksum)
        throw file.damaged("the checksum of an entry is another");
    return bytes;
}

// The text after `name` from `first` to `last`, both included; "" if there is none.
std::string between(const std::string &text, const char *name, char first, char last) {
    const size_t place = text.find(name);
    const size_t start = place == std::string::npos ? place : text.find(first, place + std::strlen(name));
    const size_t end = start == std::string::npos ? start : text.find(last, start + 1);
    return end == std::string::npos ? "" : text.substr(start, end + 1 - start);
}

// Kind and size of the type "<f4", and its order of bytes.
void parse_type(const std::string &header, const Reader &reader, Array &array, bool &is_big) {
    const std::string quoted = between(header, "'descr':", '\'', '\'');
    const std::string type = quoted.size() < 2 ? "" : quoted.substr(1, quoted.size() - 2);
    const bool is_number = type.size() == 3 && std::strchr("biuf", type[1]) && std::strchr("1248", type[2]);
    const bool is_text = type.size() >= 3 && type.size() <= 8 && type[1] == 'U' &&
                         type.find_first_not_of("0123456789", 2) == std::string::npos;
    if (!(is_number || is_text) || (is_number && type[1] == 'b' && type[2] != '1') ||
        (is_number && type[1] == 'f' && type[2] == '1') || !std::strchr("<>|=", type[0]))
        throw reader.damaged("an array holds neither numbers nor text");
    array.kind = type[1];
    array.item = is_text ? 4 * std::stoi(type.substr(2)) : type[2] - '0';
    is_big = type[0] == '>';
}

size_t parse_shape(const std::string &header, const Reader &reader, Array &array) {
    const std::string sides = between(header, "'shape':", '(', ')');
    if (sides.empty()) throw reader.damaged("an array has no shape");
    size_t count = 1, place = 0;
    while ((place = sides.find_first_of("0123456789", place)) != std::string::npos) {
        const size_t end = std::min(sides.find_first_not_of("0123456789", place), sides.size());
        if (end - place > 9 || array.shape.size() == MOST_AXES) throw reader.damaged("an array is too large");
        array.shape.push_back(std::stol(sides.substr(place, end - place)));
        if (array.shape.back() > 0 && count > MOST_FILE_BYTES / size_t(array.shape.back()))
            throw reader.damaged("an array is too large");
        count *= size_t(array.shape.back());
        place = end;
    }
    return count;
}

// Values by columns, as Fortran has them, become values by rows.
Bytes by_rows(const unsigned char *data, const Array &array, size_t count) {
    Bytes bytes(count * size_t(array.item));
    std::vector<int64_t> place(array.shape.size(), 0);
    for (size_t number = 0; number < count; ++number) {
        size_t target = 0;
        for (size_t axis = 0; axis < place.size(); ++axis)
            target = target * size_t(array.shape[axis]) + size_t(place[axis]);
        std::memcpy(bytes.data() + target * size_t(array.item), data + number * size_t(array.item),
                    size_t(array.item));
        for (size_t axis = 0; axis < place.size() && ++place[axis] == array.shape[axis]; ++axis) place[axis] = 0;
    }
    return bytes;
}

// The .npy format of NumPy: magic, version, length of the header, a Python dict as text, the values.
Array parse_npy(const Reader &reader) {
    if (std::memcmp(reader.range(0, 8), "\x93NUMPY", 6) != 0) throw reader.damaged("an entry is no .npy");
    const bool is_long = reader.number<uint8_t>(6) > 1;
    const size_t length = is_long ? reader.number<uint32_t>(8) : reader.number<uint16_t>(8), start = is_long ? 12 : 10;
    const std::string header(reinterpret_cast<const char *>(reader.range(start, length)), length);
    Array array;
    bool is_big = false;
    parse_type(header, reader, array, is_big);
    const size_t count = parse_shape(header, reader, array), size = size_t(array.item);
    if (size > 0 && count > MOST_FILE_BYTES / size) throw reader.damaged("an array is too large");
    const unsigned char *data = reader.range(start + length, count * size);
    const bool is_by_columns = header.find("'fortran_order': True") != std::string::npos;
    array.bytes = is_by_columns ? by_rows(data, array, count) : Bytes(data, data + count * size);
    if (is_big && array.kind != 'U')
        for (size_t i = 0; i < count; ++i)
            std::reverse(array.bytes.data() + i * size, array.bytes.data() + (i + 1) * size);
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

std::vector<Entry> entries_of(const Reader &file) {
    const size_t end = find_directory(file);
    const int count = file.number<uint16_t>(end + 10);
    size_t place = file.number<uint32_t>(end + 16), unpacked = 0;
    std::vector<Entry> entries;
    for (int number = 0; number < count; ++number) {
        if (file.number<uint32_t>(place) != DIRECTORY_ENTRY) throw file.damaged("its directory is wrong");
        Entry entry{"",
                    file.number<uint16_t>(place + 10),
                    file.number<uint32_t>(place + 16),
                    file.number<uint32_t>(place + 20),
                    file.number<uint32_t>(place + 24),
                    file.number<uint32_t>(place + 42)};
        const size_t length = file.number<uint16_t>(place + 28);
        entry.name.assign(reinterpret_cast<const char *>(file.range(place + 46, length)), length);
        if (length > 4 && entry.name.substr(length - 4) == ".npy") entry.name.resize(length - 4);
        place += 46 + length + file.number<uint16_t>(place + 30) + file.number<uint16_t>(place + 32);
        unpacked += entry.size;
        const bool has_two_sizes = entry.method == 0 && entry.size != entry.packed;
        if ((entry.method != 0 && entry.method != 8) || has_two_sizes)
            throw file.damaged("an entry has an unknown form");
        entries.push_back(std::move(entry));
    }
    if (unpacked > std::min(MOST_FILE_BYTES, std::max(SMALL_BYTES, MOST_EXPANSION * file.size())))
        throw file.damaged("it would unpack to " + std::to_string(unpacked) + " bytes");
    return entries;
}

template <typename To, typename Convert>
void convert(const Array &array, std::vector<To> &values, Convert read) {
    values.resize(array.count());
    for (size_t i = 0; i < values.size(); ++i) values[i] = To(read(array.bytes.data() + i * size_t(array.item)));
}

template <typename T> T loaded(const unsigned char *data) {
    T value;
    std::memcpy(&value, data, sizeof value);
    return value;
}

// Calls `use` with a function from bytes to a number.
template <typename Use> void with_reader(const Array &array, Use use) {
    const auto is = [&](char kind, int item) { return array.kind == kind && array.item == item; };
    if (is('i', 1)) use(loaded<int8_t>);
    if (is('i', 2)) use(loaded<int16_t>);
    if (is('i', 4)) use(loaded<int32_t>);
    if (is('i', 8)) use(loaded<int64_t>);
    if (is('u', 1) || is('b', 1)) use(loaded<uint8_t>);
    if (is('u', 2)) use(loaded<uint16_t>);
    if (is('u', 4)) use(loaded<uint32_t>);
    if (is('u', 8)) use(loaded<uint64_t>);
    if (is('f', 2)) use([](const unsigned char *data) { return float_from_half(loaded<uint16_t>(data)); });
    if (is('f', 4)) use(loaded<float>);
    if (is('f', 8)) use(loaded<double>);
}

} // namespace

std::string shape_text(const std::vector<int64_t> &shape) {
    std::string text = "(";
    for (size_t axis = 0; axis < shape.size(); ++axis) text += (axis ? ", " : "") + std::to_string(shape[axis]);
    return text + (shape.size() == 1 ? ",)" : ")");
}

std::string Array::shape_text() const { return facemesh::shape_text(shape); }

std::string Array::type() const {
    if (kind == 'U') return "text";
    if (kind == 'b') return "bool";
    return (kind == 'f' ? "float" : kind == 'i' ? "int" : "uint") + std::to_string(8 * item);
}

bool Array::has_shape(const std::vector<int64_t> &wanted) const {
    const auto fits = [](int64_t got, int64_t want) { return want < 0 || got == want; };
    return shape.size() == wanted.size() && std::equal(shape.begin(), shape.end(), wanted.begin(), fits);
}

double Array::at(size_t place) const {
    double value = 0;
    with_reader(*this, [&](auto read) { value = double(read(bytes.data() + place * size_t(item))); });
    return value;
}

std::vector<float> Array::floats() const {
    std::vector<float> values;
    with_reader(*this, [&](auto read) { convert(*this, values, read); });
    return values;
}

std::vector<double> Array::doubles() const {
    std::vector<double> values;
    with_reader(*this, [&](auto read) { convert(*this, values, read); });
    return values;
}

Arrays load_npz(const std::string &path, const std::vector<std::string> &names, const std::string &remedy) {
    const Bytes bytes = read_file(path, MOST_FILE_BYTES, remedy);
    const Reader file(bytes.data(), bytes.size(), path, remedy);
    Arrays arrays;
    for (const Entry &entry : entries_of(file))
        if (std::find(names.begin(), names.end(), entry.name) != names.end()) {
            const Bytes content = content_of(entry, file);
            arrays[entry.name] = parse_npy(file.within(content));
        }
    return arrays;
}

} // namespace facemesh
