#include "backends/onnx_session.h"

#include <fstream>
#include <numeric>
#include <thread>

#ifdef __linux__
#include <sched.h>
#endif

#include "library/error.h"
#include "models/files.h"

namespace facemesh {
namespace {

// The header's version is the oldest library that will do.
const OrtApi &api() {
    static const OrtApi *const found = OrtGetApiBase()->GetApi(ORT_API_VERSION);
    if (found == nullptr)
        throw Error(FACEMESH_NO_BACKEND, std::string("ONNX Runtime ") + OrtGetApiBase()->GetVersionString() +
                                             " is older than the header of this library's build; install 1." +
                                             std::to_string(ORT_API_VERSION) + " or newer");
    return *found;
}

void check(OrtStatus *status, facemesh_status kind, const std::string &before, const std::string &after) {
    if (status == nullptr) return;
    std::string line = api().GetErrorMessage(status);
    api().ReleaseStatus(status);
    line.resize(std::min(line.find('\n'), line.size()));
    while (!line.empty() && (line.back() == '.' || line.back() == ' ')) line.pop_back();
    throw Error(kind, before + " (" + line + "); " + after);
}

void check(OrtStatus *status) { check(status, FACEMESH_FAILED, "ONNX Runtime refuses a call", "report this"); }

// One environment for all sessions, as ONNX Runtime wants it; it lives as long as the process.
OrtEnv *environment() {
    static OrtEnv *const created = [] {
        OrtEnv *env = nullptr;
        check(api().CreateEnv(ORT_LOGGING_LEVEL_FATAL, "facemesh", &env));
        return env;
    }();
    return created;
}

const OrtMemoryInfo *cpu_memory() {
    static const OrtMemoryInfo *const created = [] {
        OrtMemoryInfo *info = nullptr;
        check(api().CreateCpuMemoryInfo(OrtDeviceAllocator, OrtMemTypeDefault, &info));
        return info;
    }();
    return created;
}

// VNNI of x86, DotProd of ARM: without them sums of byte products saturate on x86, unless slower exact ones are asked
// for. See runtime/cores.py.
bool has_byte_products() {
    std::ifstream lines("/proc/cpuinfo");
    for (std::string line; std::getline(lines, line);) {
        if (line.rfind("flags", 0) != 0 && line.rfind("Features", 0) != 0) continue;
        line += ' ';
        for (const char *feature : {" avx512_vnni ", " avx_vnni ", " asimddp "})
            if (line.find(feature) != std::string::npos) return true;
        return false;
    }
    return false;
}

struct Options {
    explicit Options(int threads) {
        check(api().CreateSessionOptions(&options));
        check(api().SetIntraOpNumThreads(options, threads));
        check(api().SetSessionLogSeverityLevel(options, 4));
        // A spinning thread takes the core from crop, decode and detection.
        check(api().AddSessionConfigEntry(options, "session.intra_op.allow_spinning", "0"));
        if (!has_byte_products()) check(api().AddSessionConfigEntry(options, "session.x64quantprecision", "1"));
    }
    ~Options() { api().ReleaseSessionOptions(options); }
    Options(const Options &) = delete;
    OrtSessionOptions *options = nullptr;
};

template <typename T>
OrtTensor make_tensor(T *data, const std::vector<int64_t> &shape, ONNXTensorElementDataType type) {
    size_t bytes = sizeof(T);
    for (int64_t side : shape) bytes *= size_t(side);
    OrtValue *value = nullptr;
    check(api().CreateTensorWithDataAsOrtValue(cpu_memory(), data, bytes, shape.data(), shape.size(), type, &value));
    return OrtTensor(value);
}

TensorForm form_of(const OrtSession *session, size_t number, bool is_input) {
    OrtAllocator *allocator = nullptr;
    check(api().GetAllocatorWithDefaultOptions(&allocator));
    char *name = nullptr;
    OrtTypeInfo *info = nullptr;
    check(is_input ? api().SessionGetInputName(session, number, allocator, &name)
                   : api().SessionGetOutputName(session, number, allocator, &name));
    TensorForm form{name, ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED, {}};
    allocator->Free(allocator, name);
    check(is_input ? api().SessionGetInputTypeInfo(session, number, &info)
                   : api().SessionGetOutputTypeInfo(session, number, &info));
    const std::unique_ptr<OrtTypeInfo, void (*)(OrtTypeInfo *)> owner(info, api().ReleaseTypeInfo);
    const OrtTensorTypeAndShapeInfo *tensor = nullptr; // belongs to info; NULL for what is no tensor
    check(api().CastTypeInfoToTensorInfo(info, &tensor));
    if (tensor == nullptr) return form;
    size_t count = 0;
    check(api().GetTensorElementType(tensor, &form.type));
    check(api().GetDimensionsCount(tensor, &count));
    form.shape.resize(count);
    check(api().GetDimensions(tensor, form.shape.data(), count));
    return form;
}

} // namespace

void OrtRelease::operator()(OrtSession *session) const { api().ReleaseSession(session); }
void OrtRelease::operator()(OrtValue *value) const { api().ReleaseValue(value); }

OnnxSession::OnnxSession(const std::string &path, int threads) : path_(path) {
    if (!is_file(path)) throw bad_file(path, "no model file there; check the path");
    const Options options(threads);
    OrtSession *session = nullptr;
    check(api().CreateSession(environment(), path.c_str(), options.options, &session), FACEMESH_BAD_FILE,
          path + ": ONNX Runtime cannot load it", "export the model again");
    session_.reset(session);
}

std::vector<TensorForm> OnnxSession::forms(bool of_inputs) const {
    size_t count = 0;
    check(of_inputs ? api().SessionGetInputCount(session_.get(), &count)
                    : api().SessionGetOutputCount(session_.get(), &count));
    std::vector<TensorForm> found;
    for (size_t number = 0; number < count; ++number) found.push_back(form_of(session_.get(), number, of_inputs));
    return found;
}

void OnnxSession::run(const char *input_name, const OrtValue *input, const std::vector<const char *> &output_names,
                      const std::vector<OrtValue *> &outputs) const {
    std::vector<OrtValue *> &results = const_cast<std::vector<OrtValue *> &>(outputs); // filled already, not replaced
    OrtStatus *const status = api().Run(session_.get(), nullptr, &input_name, &input, 1, output_names.data(),
                                        output_names.size(), results.data());
    if (status) check(status, FACEMESH_FAILED, path_ + ": the model does not run", "export the model again");
}

OrtTensor tensor_over(float *data, const std::vector<int64_t> &shape) {
    return make_tensor(data, shape, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT);
}

OrtTensor tensor_over(uint8_t *data, const std::vector<int64_t> &shape) {
    return make_tensor(data, shape, ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8);
}

int usable_cores() {
#ifdef __linux__
    cpu_set_t cores;
    if (sched_getaffinity(0, sizeof cores, &cores) == 0) return CPU_COUNT(&cores);
#endif
    return std::max(1, int(std::thread::hardware_concurrency()));
}

} // namespace facemesh
