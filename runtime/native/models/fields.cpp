#include "models/fields.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>

#include "models/files.h"

namespace facemesh {
namespace {

constexpr size_t MOST_TEXT = 200; // of a message
constexpr size_t MOST_BYTES = 1 << 20;

} // namespace

nlohmann::json load_json(const std::string &path, const std::string &missing, const char *writer) {
    const Bytes text = read_file(path, MOST_BYTES, missing);
    nlohmann::json document = nlohmann::json::parse(text.begin(), text.end(), nullptr, false);
    if (!document.is_object())
        throw bad_file(path, std::string("is not a JSON object; write it again with '") + writer + "'");
    return document;
}

void Fields::refuse_others(std::initializer_list<const char *> known) const {
    for (const auto &[name, value] : object_.items()) {
        const std::string &field = name;
        if (std::none_of(known.begin(), known.end(), [&](const char *other) { return field == other; }))
            throw wrong(field.substr(0, MOST_TEXT), "is unknown");
    }
}

std::string Fields::text(const char *name, std::initializer_list<const char *> allowed) const {
    const std::string value = text(name);
    std::string choices;
    for (const char *choice : allowed) {
        if (value == choice) return value;
        choices += choices.empty() ? choice : std::string(", ") + choice;
    }
    throw wrong(name, "must be one of " + choices + ", is " + value.substr(0, MOST_TEXT));
}

bool Fields::truth(const char *name, bool otherwise) const {
    return object_.contains(name) ? need(name, &json::is_boolean, "true or false").get<bool>() : otherwise;
}

double Fields::number(const char *name, double least, double most) const {
    return in_range(name, need(name, &json::is_number, "a number").get<double>(), least, most);
}

int Fields::whole(const char *name, int least, int most) const {
    const double value = need(name, &json::is_number, "a whole number").get<double>();
    if (value != std::floor(value)) throw wrong(name, "must be a whole number, is " + std::to_string(value));
    return int(in_range(name, value, least, most));
}

std::vector<double> Fields::numbers(const char *name) const {
    std::vector<double> values;
    for (const json &value : need(name, &json::is_array, "a list of numbers")) {
        if (!value.is_number() || !std::isfinite(value.get<double>()))
            throw wrong(name, "must be a list of finite numbers");
        values.push_back(value.get<double>());
    }
    return values;
}

std::vector<std::string> Fields::texts(const char *name) const {
    std::vector<std::string> values;
    for (const json &value : need(name, &json::is_array, "a list of texts")) {
        if (!value.is_string()) throw wrong(name, "must be a list of texts");
        values.push_back(value.get<std::string>());
    }
    return values;
}

const Fields::json &Fields::need(const char *name, bool (json::*is_right)() const noexcept, const char *kind) const {
    if (!object_.contains(name)) throw wrong(name, "is missing");
    const json &value = object_.at(name);
    if (!(value.*is_right)()) throw wrong(name, std::string("must be ") + kind);
    return value;
}

double Fields::in_range(const char *name, double value, double least, double most) const {
    if (value >= least && value <= most) return value;
    char range[96];
    std::snprintf(range, sizeof range, "must be %g..%g, is %g", least, most, value);
    throw wrong(name, range);
}

Error Fields::wrong(const std::string &name, const std::string &fault) const {
    std::string line = "field " + (prefix_.empty() ? name : prefix_ + "." + name) + " " + fault;
    for (char &letter : line)
        if (letter == '\n' || letter == '\r') letter = ' ';
    return bad_file(path_, line + "; write it again with '" + writer_ + "'");
}

} // namespace facemesh
