// A stand-in for libnvinfer.so and libtensorrt_rtx.so on machines without a GPU: the C++ sibling of
// tests/standins/fake_engine.py. It runs that file's plans, an ONNX file behind a line of JSON, with ONNX Runtime on
// the memory of the stand-in driver (tests/standins/fake_libcuda), and refuses the same inputs: plans that are damaged
// or not for it, shapes out of range, a capture before the first run, contexts without scratch memory, and, of
// TensorRT-RTX, the capture of an engine that was built without REQUIRE_USER_ALLOCATION. Its weights are memory of the
// driver, so that what is not released, or too late, is found. The fake_trt_... functions are for the tests.
#include <NvInferRuntime.h>

#include <cstring>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <onnxruntime_c_api.h>
#include <set>
#include <string>
#include <vector>

#include "gpu/half.h"

using namespace nvinfer1;
using facemesh::float_from_half, facemesh::half_from_float;

// Of the driver.
extern "C" int cuMemAlloc_v2(void **out, size_t nbytes);
extern "C" int cuMemFree_v2(void *pointer);
extern "C" int cuLaunchHostFunc(cudaStream_t stream, void (*function)(void *), void *data);
extern "C" int cuStreamIsCapturing(cudaStream_t stream, int *is_capturing);

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace {

constexpr size_t SCRATCH = 1 << 16; // bytes
constexpr int INVALID_VALUE = 1, INVALID_CONTEXT = 201;
const std::string MAGIC = "plan of the stand-in ";
#ifdef TRT_MAJOR_RTX
constexpr bool IS_RTX = true;
#else
constexpr bool IS_RTX = false;
#endif

std::string failing;  // the step that fails
std::string log_text; // what was done
int late = 0;         // memory that was released after its CUDA context
ILogger *first_logger = nullptr;

const OrtApi &ort() { return *OrtGetApiBase()->GetApi(ORT_API_VERSION); }
OrtStatus *check(OrtStatus *status) {
    if (status != nullptr) {
        std::fprintf(stderr, "nvinfer: %s\n", ort().GetErrorMessage(status));
        std::abort();
    }
    return status;
}

void say(ILogger::Severity severity, const std::string &text) { first_logger->log(severity, text.c_str()); }
bool refuse(const std::string &reason) { return say(ILogger::Severity::kERROR, reason), false; }

struct Memory { // a device buffer of the library's own, released with its owner
    explicit Memory(size_t nbytes) {
        if (failing == "memory" || cuMemAlloc_v2(&pointer, nbytes) != 0) pointer = nullptr;
    }
    ~Memory() {
        if (pointer == nullptr) return;
        const int status = cuMemFree_v2(pointer);
        late += status == INVALID_VALUE || status == INVALID_CONTEXT;
    }
    Memory(const Memory &) = delete;
    void *pointer = nullptr;
};

struct Tensor {
    std::string name;
    TensorIOMode mode;
    DataType type;
    std::vector<int64_t> sides; // -1: free
};

struct Session {
    explicit Session(const std::string &onnx) {
        OrtSessionOptions *options = nullptr;
        check(ort().CreateEnv(ORT_LOGGING_LEVEL_FATAL, "stand-in", &env));
        check(ort().CreateSessionOptions(&options));
        check(ort().SetIntraOpNumThreads(options, 1));
        check(ort().CreateSessionFromArray(env, onnx.data(), onnx.size(), options, &session));
        ort().ReleaseSessionOptions(options);
        check(ort().CreateCpuMemoryInfo(OrtDeviceAllocator, OrtMemTypeDefault, &info));
    }
    ~Session() {
        ort().ReleaseMemoryInfo(info);
        ort().ReleaseSession(session);
        ort().ReleaseEnv(env);
    }
    std::vector<Tensor> tensors(const nlohmann::json &types) const {
        std::vector<Tensor> found;
        OrtAllocator *allocator = nullptr;
        check(ort().GetAllocatorWithDefaultOptions(&allocator));
        size_t counts[2] = {0, 0};
        check(ort().SessionGetInputCount(session, &counts[0]));
        check(ort().SessionGetOutputCount(session, &counts[1]));
        for (int is_output = 0; is_output < 2; ++is_output)
            for (size_t number = 0; number < counts[is_output]; ++number) {
                char *name = nullptr;
                OrtTypeInfo *type = nullptr;
                const OrtTensorTypeAndShapeInfo *shape = nullptr;
                size_t rank = 0;
                check(is_output ? ort().SessionGetOutputName(session, number, allocator, &name)
                                : ort().SessionGetInputName(session, number, allocator, &name));
                check(is_output ? ort().SessionGetOutputTypeInfo(session, number, &type)
                                : ort().SessionGetInputTypeInfo(session, number, &type));
                check(ort().CastTypeInfoToTensorInfo(type, &shape));
                check(ort().GetDimensionsCount(shape, &rank));
                Tensor tensor{name, is_output ? TensorIOMode::kOUTPUT : TensorIOMode::kINPUT, DataType::kFLOAT, {}};
                tensor.sides.resize(rank);
                check(ort().GetDimensions(shape, tensor.sides.data(), rank));
                for (int64_t &side : tensor.sides) side = side < 1 ? -1 : side;
                const std::string kind = types[found.size()];
                tensor.type = kind == "HALF" ? DataType::kHALF : kind == "INT8" ? DataType::kINT8 : DataType::kFLOAT;
                found.push_back(tensor);
                ort().ReleaseTypeInfo(type);
                check(ort().AllocatorFree(allocator, name));
            }
        return found;
    }
    OrtEnv *env = nullptr;
    OrtSession *session = nullptr;
    OrtMemoryInfo *info = nullptr;
};

struct Plan {
    nlohmann::json head;
    std::vector<Tensor> tensors;
    std::unique_ptr<Session> session;
    bool profile_is_taken = false;

    int64_t batch(int which) const { return head["batch"][which]; }
    bool has(const char *word) const { return head.value(word, false); }
    const Tensor *find(const char *name) const {
        for (const Tensor &tensor : tensors)
            if (tensor.name == name) return &tensor;
        return nullptr;
    }
};

struct Run { // one call of the network: a captured graph calls it again and again
    const Plan *plan;
    std::vector<void *> addresses;
    int64_t batch;
    void *scratch;

    static void start(void *data) { static_cast<const Run *>(data)->compute(); }
    void compute() const {
        std::memset(scratch, 0x5A, SCRATCH); // as inner results do
        std::vector<std::vector<float>> values(plan->tensors.size());
        std::vector<OrtValue *> tensors(plan->tensors.size(), nullptr);
        std::vector<const char *> names;
        for (size_t i = 0; i < values.size(); ++i) {
            const Tensor &tensor = plan->tensors[i];
            std::vector<int64_t> sides = tensor.sides;
            sides[0] = batch;
            size_t count = 1;
            for (int64_t side : sides) count *= size_t(side);
            values[i].resize(count);
            if (i == 0) load(tensor, addresses[i], values[i]);
            check(ort().CreateTensorWithDataAsOrtValue(plan->session->info, values[i].data(), count * sizeof(float),
                                                       sides.data(), sides.size(), ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT,
                                                       &tensors[i]));
            names.push_back(tensor.name.c_str());
        }
        check(ort().Run(plan->session->session, nullptr, names.data(), tensors.data(), 1, names.data() + 1,
                        names.size() - 1, tensors.data() + 1));
        for (size_t i = 0; i < values.size(); ++i) {
            if (i > 0) store(plan->tensors[i], values[i], addresses[i]);
            ort().ReleaseValue(tensors[i]);
        }
    }
    static void load(const Tensor &tensor, const void *address, std::vector<float> &values) {
        for (size_t i = 0; i < values.size(); ++i)
            values[i] = tensor.type == DataType::kHALF ? float_from_half(static_cast<const uint16_t *>(address)[i])
                                                       : static_cast<const float *>(address)[i];
    }
    static void store(const Tensor &tensor, const std::vector<float> &values, void *address) {
        for (size_t i = 0; i < values.size(); ++i)
            if (tensor.type == DataType::kHALF)
                static_cast<uint16_t *>(address)[i] = half_from_float(values[i]);
            else
                static_cast<float *>(address)[i] = values[i];
    }
};

class Context : public IExecutionContext {
  public:
    Context(Plan &plan, std::set<int64_t> *compiled) : plan_(plan), compiled_(compiled) {
        const bool shares = NV_TENSORRT_MAJOR != 8 || plan.has("shares_profile");
        profile_ = shares || !plan.profile_is_taken ? 0 : -1;
        plan.profile_is_taken = true;
    }
    bool setInputShape(const char *name, const Dims &dims) noexcept override {
        const Tensor *tensor = plan_.find(name);
        bool fits = failing != "shape" && profile_ == 0 && tensor != nullptr &&
                    size_t(dims.nbDims) == tensor->sides.size() && plan_.batch(0) <= dims.d[0] &&
                    dims.d[0] <= plan_.batch(1);
        for (size_t axis = 0; fits && axis < tensor->sides.size(); ++axis)
            fits = tensor->sides[axis] == -1 || tensor->sides[axis] == dims.d[axis];
        if (!fits) return refuse("Set dimensions for tensor\n" + std::string(name) + " are out of range");
        run_.batch = dims.d[0];
        return true;
    }
    bool setTensorAddress(const char *name, void *address) noexcept override {
        addresses_[name] = address;
        return plan_.find(name) != nullptr && uintptr_t(address) % 16 == 0;
    }
    int32_t inferShapes(int32_t, const char **) noexcept override { return run_.batch > 0 ? 0 : 1; }
    bool enqueueV3(cudaStream_t stream) noexcept override {
        int is_capturing = 0;
        cuStreamIsCapturing(stream, &is_capturing);
        if (scratch_ == nullptr) return refuse("The context has no device memory");
        if (is_capturing && IS_RTX && !plan_.has("user_allocation"))
            return refuse("stream is in capturing mode, but this TRT engine is not stream capturable");
        if (failing == "run" || (is_capturing && (failing == "capture" || !is_warm_)))
            return refuse(is_capturing ? "Cuda Runtime (operation not permitted when stream is capturing)"
                                       : "Cuda Runtime (launch failed)");
        run_.plan = &plan_, run_.scratch = scratch_;
        run_.addresses.clear();
        for (const Tensor &tensor : plan_.tensors) run_.addresses.push_back(addresses_[tensor.name]);
        if (cuLaunchHostFunc(stream, Run::start, &run_) != 0) return refuse("Cuda Runtime (launch failed)");
        is_warm_ = true;
        if (compiled_) compiled_->insert(run_.batch);
        log_text += "run " + std::to_string(run_.batch) + '\n';
        return true;
    }
    int32_t getOptimizationProfile() const noexcept override { return profile_; }
    bool setOptimizationProfileAsync(int32_t, cudaStream_t) noexcept override {
        return refuse("Profile 0 has been chosen by another IExecutionContext.");
    }
#if NV_TENSORRT_MAJOR == 8
    void setDeviceMemory(void *memory) noexcept override { scratch_ = memory; }
#else
    void setDeviceMemoryV2(void *memory, int64_t nbytes) noexcept override {
        scratch_ = size_t(nbytes) >= SCRATCH ? memory : nullptr;
    }
#endif
#ifdef TRT_MAJOR_RTX
    bool isStreamCapturable(cudaStream_t) const noexcept override { return plan_.has("user_allocation"); }
#endif

  private:
    Plan &plan_;
    std::set<int64_t> *compiled_;
    int32_t profile_;
    bool is_warm_ = false;
    void *scratch_ = nullptr;
    std::map<std::string, void *> addresses_;
    Run run_{nullptr, {}, 0, nullptr};
};

#ifdef TRT_MAJOR_RTX
class Text : public IHostMemory {
  public:
    explicit Text(std::string text) : text_(std::move(text)) {}
    void *data() const noexcept override { return const_cast<char *>(text_.data()); }
    size_t size() const noexcept override { return text_.size(); }

  private:
    std::string text_;
};

class Cache : public IRuntimeCache {
  public:
    bool deserialize(const void *data, size_t nbytes) noexcept override {
        const std::string text(static_cast<const char *>(data), nbytes);
        if (text.rfind("kernels", 0) != 0) return false;
        log_text += "cache\n";
        for (size_t place = text.find(' '); place != std::string::npos; place = text.find(' ', place + 1))
            compiled.insert(std::stoll(text.substr(place)));
        return true;
    }
    IHostMemory *serialize() const noexcept override {
        std::string text = "kernels";
        for (int64_t batch : compiled) text += " " + std::to_string(batch);
        return new Text(text);
    }
    mutable std::set<int64_t> compiled;
};

class Config : public IRuntimeConfig {
  public:
    void setExecutionContextAllocationStrategy(ExecutionContextAllocationStrategy strategy) noexcept override {
        is_right += strategy == ExecutionContextAllocationStrategy::kUSER_MANAGED;
    }
    void
    setDynamicShapesKernelSpecializationStrategy(DynamicShapesKernelSpecializationStrategy strategy) noexcept override {
        is_right += strategy == DynamicShapesKernelSpecializationStrategy::kEAGER;
    }
    bool setCudaGraphStrategy(CudaGraphStrategy strategy) noexcept override {
        return is_right += strategy == CudaGraphStrategy::kDISABLED, true;
    }
    IRuntimeCache *createRuntimeCache() const noexcept override { return new Cache; }
    bool setRuntimeCache(const IRuntimeCache &chosen) noexcept override {
        return cache = static_cast<const Cache *>(&chosen), true;
    }
    int is_right = 0;
    const Cache *cache = nullptr;
};
#endif

class Engine : public ICudaEngine {
  public:
    Engine(Plan plan, size_t nbytes) : plan_(std::move(plan)), weights_(nbytes) {}
    bool is_loaded() const { return weights_.pointer != nullptr; }

    int32_t getNbIOTensors() const noexcept override {
        return int32_t(plan_.tensors.size()) + plan_.head.value("outputs", 0);
    }
    const char *getIOTensorName(int32_t index) const noexcept override {
        return size_t(index) < plan_.tensors.size() ? plan_.tensors[size_t(index)].name.c_str() : "another_output";
    }
    TensorIOMode getTensorIOMode(const char *name) const noexcept override {
        const Tensor *tensor = plan_.find(name);
        return tensor ? tensor->mode : TensorIOMode::kNONE;
    }
    DataType getTensorDataType(const char *name) const noexcept override {
        const Tensor *tensor = plan_.find(name);
        return tensor ? tensor->type : DataType::kFLOAT;
    }
    Dims getTensorShape(const char *name) const noexcept override {
        const Tensor *tensor = plan_.find(name);
        Dims dims{};
        dims.nbDims = tensor ? int32_t(tensor->sides.size()) : -1;
        for (int32_t axis = 0; axis < dims.nbDims; ++axis) dims.d[axis] = tensor->sides[size_t(axis)];
        if (tensor && plan_.batch(0) == plan_.batch(1)) dims.d[0] = plan_.batch(0); // built for one size alone
        return dims;
    }
    int32_t getTensorVectorizedDim(const char *) const noexcept override { return plan_.has("vectorised") ? 1 : -1; }
    Dims getProfileShape(const char *name, int32_t, OptProfileSelector which) const noexcept override {
        Dims dims = getTensorShape(name);
        dims.d[0] = plan_.batch(which == OptProfileSelector::kMAX);
        return dims;
    }
#if NV_TENSORRT_MAJOR == 8
    size_t getDeviceMemorySize() const noexcept override { return SCRATCH; }
    IExecutionContext *createExecutionContextWithoutDeviceMemory() noexcept override { return make(nullptr); }
#else
    int64_t getDeviceMemorySizeV2() const noexcept override { return SCRATCH; }
#endif
#ifdef TRT_MAJOR_RTX
    IRuntimeConfig *createRuntimeConfig() noexcept override { return new Config; }
    IExecutionContext *createExecutionContext(IRuntimeConfig *config) noexcept override {
        const Config &chosen = static_cast<const Config &>(*config);
        return chosen.is_right == 3 && chosen.cache ? make(&chosen.cache->compiled) : nullptr;
    }
#elif NV_TENSORRT_MAJOR >= 10
    IExecutionContext *createExecutionContext(ExecutionContextAllocationStrategy strategy) noexcept override {
        return strategy == ExecutionContextAllocationStrategy::kUSER_MANAGED ? make(nullptr) : nullptr;
    }
#endif

  private:
    IExecutionContext *make(std::set<int64_t> *compiled) {
        if (failing == "context") return refuse("cudaMalloc failed: out of memory"), nullptr;
        return new Context(plan_, compiled);
    }

    Plan plan_;
    Memory weights_;
};

class Runtime : public IRuntime {
  public:
    void setEngineHostCodeAllowed(bool allowed) noexcept override { allows_host_code_ = allowed; }
    void setDLACore(int32_t core) noexcept override { log_text += "DLA " + std::to_string(core) + '\n'; }
    ICudaEngine *deserializeCudaEngine(const void *blob, size_t nbytes) noexcept override {
        const std::string bytes(static_cast<const char *>(blob), nbytes);
        const size_t end = bytes.find('\n');
        Plan plan;
        if (failing != "load" && bytes.rfind(MAGIC, 0) == 0 && end != std::string::npos)
            plan.head = nlohmann::json::parse(bytes.substr(MAGIC.size(), end - MAGIC.size()), nullptr, false);
        if (!plan.head.is_object() || bytes.size() < end + 4 || bytes.substr(bytes.size() - 3) != "end")
            return refuse("Error Code 1: Serialization (Serialization assertion\nmagicTagRead == kMAGIC_TAG failed.)"),
                   nullptr;
        if (plan.has("rtx") != IS_RTX) return refuse("The engine plan file was not generated by this library"), nullptr;
        if (plan.has("version_compatible") && !allows_host_code_)
            return refuse("Engine contains host executable code, which is not allowed"), nullptr;
        plan.session = std::make_unique<Session>(bytes.substr(end + 1, bytes.size() - end - 4));
        plan.tensors = plan.session->tensors(plan.head["types"]);
        auto engine = std::make_unique<Engine>(std::move(plan), nbytes);
        if (!engine->is_loaded()) return refuse("cudaMalloc failed: out of memory"), nullptr;
        if (failing == "warn")
            say(ILogger::Severity::kWARNING,
                "Using an engine plan file across different models of devices\nis not recommended");
        return engine.release();
    }

  private:
    bool allows_host_code_ = false;
};

} // namespace

EXPORT void *createInferRuntime_INTERNAL(void *logger, int32_t version) {
    if (first_logger == nullptr) first_logger = static_cast<ILogger *>(logger);
    if (failing == "start" || version / 10000 != NV_TENSORRT_MAJOR)
        return refuse("CUDA initialization failure with error: 35"), nullptr;
    return new Runtime;
}
#if NV_TENSORRT_MAJOR == 8
EXPORT int32_t getInferLibVersion() { return NV_TENSORRT_MAJOR * 1000 + NV_TENSORRT_MINOR * 100 + NV_TENSORRT_PATCH; }
#else
EXPORT int32_t getInferLibVersion() { return NV_TENSORRT_VERSION; }
EXPORT int32_t getInferLibMajorVersion() { return NV_TENSORRT_MAJOR; }
EXPORT int32_t getInferLibMinorVersion() { return NV_TENSORRT_MINOR; }
EXPORT int32_t getInferLibPatchVersion() { return NV_TENSORRT_PATCH; }
EXPORT int32_t getInferLibBuildVersion() { return NV_TENSORRT_BUILD; }
#endif

// The step that fails from now on: start, load, memory, context, shape, run, capture; warn only warns; "" none.
EXPORT void fake_trt_fail(const char *step) { failing = step; }
// What was done since the last call.
EXPORT const char *fake_trt_log() {
    static std::string given;
    given.swap(log_text);
    log_text.clear();
    return given.c_str();
}
EXPORT int fake_trt_late() { return late; }
