// One object of a JSON document: reads check type and range, and name the field at fault.
#pragma once

#include <initializer_list>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "library/error.h"

namespace facemesh {

// The object in the JSON file `path`. `missing` ends the line of a file that is not there. Throws Error.
nlohmann::json load_json(const std::string &path, const std::string &missing,
                         const char *writer = "python -m export onnx");

class Fields {
  public:
    using json = nlohmann::json;

    // prefix: name of the object in its document, "" for the document itself; writer: the command that writes that.
    // Object, path and writer must outlive this.
    Fields(const json &object, std::string prefix, const std::string &path,
           const char *writer = "python -m export onnx")
        : object_(object), prefix_(std::move(prefix)), path_(path), writer_(writer) {}

    // Throws Error for a field that is none of `known`.
    void refuse_others(std::initializer_list<const char *> known) const;

    Fields inner(const char *name) const {
        return Fields(need(name, &json::is_object, "an object"), name, path_, writer_);
    }
    std::string text(const char *name) const { return need(name, &json::is_string, "a text").get<std::string>(); }
    std::string text(const char *name, std::initializer_list<const char *> allowed) const;
    bool truth(const char *name, bool otherwise) const; // `otherwise` where it is not set
    double number(const char *name, double least, double most) const;
    int whole(const char *name, int least, int most) const; // 3.0 is one
    std::vector<double> numbers(const char *name) const;    // finite
    std::vector<std::string> texts(const char *name) const;
    bool is_set(const char *name) const { return object_.contains(name) && !object_.at(name).is_null(); }

    Error wrong(const std::string &name, const std::string &fault) const;

  private:
    const json &need(const char *name, bool (json::*is_right)() const noexcept, const char *kind) const;
    double in_range(const char *name, double value, double least, double most) const;

    const json &object_;
    std::string prefix_;
    const std::string &path_;
    const char *writer_;
};

} // namespace facemesh
