#include "models/manifest.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <climits>
#include <sys/utsname.h>

#include "library/error.h"
#include "models/fields.h"
#include "models/sha256.h"

namespace facemesh {
namespace {

constexpr size_t MOST_ENGINE_BYTES = size_t(4) << 30, MOST_VERSION = 64;
constexpr const char *WRITER = "python -m export engine";
// Version-compatible engines go forward across these major versions alone.
constexpr std::array<std::array<long, 2>, 2> NEXT_MAJOR = {{{8, 10}, {10, 11}}};

// Numbers and words with dots between, the first one a number; perhaps a '+' at the end.
bool is_version(const std::string &text) {
    const std::string body = text.substr(0, text.size() - (!text.empty() && text.back() == '+'));
    if (text.size() > MOST_VERSION || body.empty() || !std::isdigit(static_cast<unsigned char>(body[0]))) return false;
    bool is_first = true;
    for (size_t i = 0; i < body.size(); ++i) {
        const unsigned char letter = static_cast<unsigned char>(body[i]);
        if (letter == '.') {
            if (i + 1 == body.size() || body[i + 1] == '.') return false;
            is_first = false;
        } else if (letter > 127 || !(std::isdigit(letter) || (!is_first && (std::isalnum(letter) || letter == '_')))) {
            return false;
        }
    }
    return true;
}

// All numbers in a text.
std::vector<long> numbers_of(const std::string &text) {
    std::vector<long> numbers;
    for (size_t i = 0; i < text.size(); ++i) {
        if (!std::isdigit(static_cast<unsigned char>(text[i]))) continue;
        if (i == 0 || !std::isdigit(static_cast<unsigned char>(text[i - 1]))) numbers.push_back(0);
        numbers.back() = std::min(numbers.back(), LONG_MAX / 10 - 9) * 10 + (text[i] - '0');
    }
    return numbers;
}

// True if a dotted version is the wanted one; with '+' a newer one will do.
bool reaches(const std::string &found, const std::string &wanted) {
    return wanted.back() == '+' ? numbers_of(found) >= numbers_of(wanted) : found == wanted;
}

bool takes_version(const std::string &built, const std::string &here) {
    const std::array<long, 2> majors = {numbers_of(built)[0], numbers_of(here)[0]};
    const bool goes_on = std::find(NEXT_MAJOR.begin(), NEXT_MAJOR.end(), majors) != NEXT_MAJOR.end();
    return reaches(here, built) && (majors[0] == majors[1] || goes_on);
}

// What plans of TensorRT are bound to beside the device: "linux-x86_64", "linux-aarch64-tegra".
std::string platform_name(const cuda::DeviceInfo &device) {
    utsname system = {};
    uname(&system);
    std::string name = system.sysname;
    std::transform(name.begin(), name.end(), name.begin(), [](unsigned char letter) { return std::tolower(letter); });
    return name + "-" + system.machine + (device.integrated ? "-tegra" : "");
}

std::string joined(const std::vector<std::string> &texts, const char *between) {
    std::string line;
    for (const std::string &text : texts) line += (line.empty() ? "" : between) + text;
    return line;
}

std::string text_or_none(const Fields &fields, const char *name) {
    return fields.is_set(name) ? fields.text(name) : "";
}

void check_versions(const Fields &fields, const char *name, const std::vector<std::string> &texts) {
    for (const std::string &text : texts)
        if (!is_version(text))
            throw fields.wrong(name, "must be numbers with dots between, is " + text.substr(0, MOST_VERSION));
}

void check_batch(const Fields &fields) {
    const std::vector<double> batch = fields.numbers("batch");
    if (batch.size() != 3 || !(1 <= batch[0] && batch[0] <= batch[1] && batch[1] <= batch[2]))
        throw fields.wrong("batch", "must be three numbers from 1 on that do not fall");
}

} // namespace

std::string Manifest::why_not(const std::string &here, const cuda::DeviceInfo *found, const std::string &remedy) const {
    std::vector<std::string> reasons;
    if (here.empty())
        reasons.push_back(library + " is not installed here");
    else if (!takes_version(version, here))
        reasons.push_back("this is " + library + " " + here);
    const auto runs_on = [&](const std::string &wanted) { return reaches(found->compute_capability, wanted); };
    if (found == nullptr)
        reasons.push_back("no CUDA device is found here");
    else if (std::none_of(compute_capabilities.begin(), compute_capabilities.end(), runs_on))
        reasons.push_back("this is " + found->name + " of compute capability " + found->compute_capability);
    else if (!platform.empty() && platform != platform_name(*found))
        reasons.push_back("this is " + platform_name(*found));
    if (reasons.empty()) return "";
    const std::string wanted = library + " " + version + ", compute capability " + joined(compute_capabilities, ", ") +
                               (platform.empty() ? "" : " on " + platform);
    std::string line = "built " + (device.empty() ? "without a device" : "on " + device) + " for " + wanted + "; " +
                       joined(reasons, " and ");
    if (found != nullptr) line += "; " + (here.empty() ? remedy : "build it here with '" + command + "'");
    return line;
}

std::string Manifest::doubt(const cuda::DeviceInfo &found) const {
    if (multiprocessors == 0 || found.multiprocessors == 0 || found.multiprocessors == multiprocessors) return "";
    return "built on " + std::to_string(multiprocessors) + " multiprocessors, this " + found.name + " has " +
           std::to_string(found.multiprocessors) + ": it may be slow or fail; build it here with '" + command + "'";
}

Manifest load_manifest(const std::string &path) {
    const nlohmann::json document =
        load_json(path, std::string("it belongs beside the engine, '") + WRITER + "' writes both", WRITER);
    const Fields fields(document, "", path, WRITER);
    fields.refuse_others({"spec", "engine_sha256", "library", "version", "batch", "compute_capabilities", "device",
                          "dla_core", "created", "command", "platform", "multiprocessors"});
    Manifest manifest;
    manifest.path = path;
    manifest.spec = read_spec(fields.inner("spec"));
    manifest.engine_sha256 = fields.text("engine_sha256");
    manifest.library = fields.text("library", {"tensorrt", "tensorrt-rtx"});
    manifest.version = fields.text("version");
    manifest.compute_capabilities = fields.texts("compute_capabilities");
    manifest.device = text_or_none(fields, "device");
    manifest.command = fields.text("command");
    manifest.platform = text_or_none(fields, "platform");
    if (fields.is_set("dla_core")) manifest.dla_core = fields.whole("dla_core", 0, 15);
    if (fields.is_set("multiprocessors")) manifest.multiprocessors = fields.whole("multiprocessors", 0, INT_MAX);
    if (manifest.compute_capabilities.empty()) throw fields.wrong("compute_capabilities", "must name one at least");
    check_batch(fields);
    check_versions(fields, "version", {manifest.version});
    check_versions(fields, "compute_capabilities", manifest.compute_capabilities);
    return manifest;
}

Bytes read_engine(const std::string &path, const Manifest &manifest) {
    Bytes bytes = read_file(path, MOST_ENGINE_BYTES, std::string("'") + WRITER + "' makes one from an ONNX file");
    const std::string found = sha256(bytes.data(), bytes.size());
    if (found != manifest.engine_sha256)
        throw bad_file(path, "its SHA-256 " + found.substr(0, 12) + "… is not the " +
                                 manifest.engine_sha256.substr(0, 12) + "… of " + name_of(manifest.path) +
                                 "; it is damaged or another engine, build it again with '" + manifest.command + "'");
    return bytes;
}

} // namespace facemesh
