// The backend for engines: TensorRT from 8.5 on or, compiled with FACEMESH_RTX, TensorRT-RTX. See
// runtime/inference/trt/engine.py. Neither library is linked: it is loaded with the first engine, so programs start
// without it, too, and one program can have both, whose functions have the same names.
#ifdef FACEMESH_RTX
#define nvinfer1 nvinfer1_rtx // the classes of both have the same names, too, and differ
#endif
#include <NvInferRuntime.h>

#include <dlfcn.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <mutex>
#include <numeric>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "backends/network.h"
#include "driver/device.h"
#include "gpu/half.h"
#include "library/error.h"

namespace facemesh {
namespace {

namespace trt = nvinfer1;

#define FACEMESH_TEXT_OF(number) #number
#define FACEMESH_TEXT(number) FACEMESH_TEXT_OF(number)
#ifdef FACEMESH_RTX
constexpr const char *NAME = "tensorrt-rtx", *TITLE = "TensorRT-RTX",
                     *LIBRARY = "libtensorrt_rtx.so." FACEMESH_TEXT(NV_TENSORRT_MAJOR);
constexpr int VERSION = 100000; // newer than any below
#else
constexpr const char *NAME = "tensorrt", *TITLE = "TensorRT",
                     *LIBRARY = "libnvinfer.so." FACEMESH_TEXT(NV_TENSORRT_MAJOR);
constexpr int VERSION = NV_TENSORRT_MAJOR * 100 + NV_TENSORRT_MINOR; // of the header
#endif
#ifndef FACEMESH_LIBRARY_PATH
#define FACEMESH_LIBRARY_PATH LIBRARY
#endif
static_assert(VERSION >= 805, "TensorRT 8.5 is the oldest that runs engines by the names of their tensors");

constexpr int64_t MOST_BATCH = 64;
constexpr size_t ALIGNMENT = 256; // bytes, of a tensor
constexpr size_t MOST_CACHE_BYTES = size_t(1) << 30, MOST_MESSAGES = 16;

// What the library logs, until a step fails or the engine is open.
class Messages {
  public:
    void add(trt::ILogger::Severity severity, const char *text) {
        std::string line;
        for (const char *letter = text; *letter; ++letter) line += *letter == '\n' || *letter == '\r' ? ' ' : *letter;
        const std::lock_guard<std::mutex> lock(mutex_);
        if (severity <= trt::ILogger::Severity::kERROR) add_once(errors_, line);
        if (severity == trt::ILogger::Severity::kWARNING) add_once(warnings_, line);
    }

    // A step that worked has no errors for the next one.
    void forget() {
        const std::lock_guard<std::mutex> lock(mutex_);
        errors_.clear();
    }

    std::string reasons() {
        const std::lock_guard<std::mutex> lock(mutex_);
        std::string line;
        for (const std::string &error : errors_) line += (line.empty() ? "" : "; ") + error;
        return line.empty() ? "the library gives no reason" : line;
    }

    std::vector<std::string> warnings() {
        const std::lock_guard<std::mutex> lock(mutex_);
        return warnings_;
    }

  private:
    static void add_once(std::vector<std::string> &lines, const std::string &line) {
        if (lines.size() < MOST_MESSAGES && std::find(lines.begin(), lines.end(), line) == lines.end())
            lines.push_back(line);
    }

    std::mutex mutex_;
    std::vector<std::string> errors_, warnings_;
};

// A library keeps the first logger that it is given until the process ends. So there is one, and it forwards every
// message to all engines: a message does not name its own.
class Logger : public trt::ILogger {
  public:
    static Logger &get() {
        static Logger *const kept = new Logger;
        return *kept;
    }

    void log(Severity severity, const char *text) noexcept override {
        try {
            const std::lock_guard<std::mutex> lock(mutex_);
            for (Messages *listener : listeners_) listener->add(severity, text);
        } catch (const std::exception &) { // the memory is full: one message less
        }
    }
    void listen(Messages *messages) {
        const std::lock_guard<std::mutex> lock(mutex_);
        listeners_.insert(messages);
    }
    void leave(Messages *messages) {
        const std::lock_guard<std::mutex> lock(mutex_);
        listeners_.erase(messages);
    }

  private:
    std::mutex mutex_;
    std::set<Messages *> listeners_;
};

// The library's functions; it stays loaded until the process ends.
class Library {
  public:
    // NULL where it is not installed; another call looks again.
    static const Library *find() {
        static std::mutex mutex;
        static std::optional<Library> found;
        const std::lock_guard<std::mutex> lock(mutex);
        if (!found)
            for (const char *name : {LIBRARY, FACEMESH_LIBRARY_PATH})
                if (void *handle = dlopen(name, RTLD_NOW | RTLD_LOCAL)) {
                    found.emplace(Library(handle));
                    break;
                }
        return found ? &*found : nullptr;
    }

    trt::IRuntime *new_runtime() const {
        const auto create = reinterpret_cast<void *(*)(void *, int32_t)>(dlsym(handle_, "createInferRuntime_INTERNAL"));
        return create ? static_cast<trt::IRuntime *>(create(&Logger::get(), NV_TENSORRT_VERSION)) : nullptr;
    }

    // "10.3.0" or "10.3.0.26", as long as `like`: manifests have what the library's Python package says, and that
    // leaves the number of the build out in some versions.
    std::string version(const std::string &like) const {
        int numbers[] = {call("getInferLibMajorVersion"), call("getInferLibMinorVersion"),
                         call("getInferLibPatchVersion"), call("getInferLibBuildVersion")};
        if (numbers[0] < 0) { // before 10
            const int all = std::max(call("getInferLibVersion"), 0);
            numbers[0] = all / 1000, numbers[1] = all / 100 % 10, numbers[2] = all % 100;
        }
        const int count = std::count(like.begin(), like.end(), '.') == 3 && numbers[3] >= 0 ? 4 : 3;
        std::string text;
        for (int i = 0; i < count; ++i) text += (i ? "." : "") + std::to_string(numbers[i]);
        return text;
    }

  private:
    explicit Library(void *handle) : handle_(handle) {}

    int call(const char *name) const {
        const auto function = reinterpret_cast<int32_t (*)()>(dlsym(handle_, name));
        return function ? function() : -1;
    }

    void *handle_;
};

// The context on this thread; the one before comes back. On a lost device nothing can be made current.
class Current {
  public:
    explicit Current(const cuda::Context &context) : context_(context), is_pushed_(context.try_push()) {}
    ~Current() {
        try {
            if (is_pushed_) context_.pop();
        } catch (const cuda::Failure &) { // a lost device
        }
    }
    Current(const Current &) = delete;

  private:
    const cuda::Context &context_;
    const bool is_pushed_;
};

// Closes a resource of the driver with itself. What a lost device had is gone already.
template <typename Resource> class Closing : public Resource {
  public:
    using Resource::Resource;
    Closing(const Closing &) = delete;
    ~Closing() {
        try {
            Resource::close();
        } catch (const cuda::Failure &) {
        }
    }
};

// Waits for a stream at its end, before what the work on it needs is freed: a step that failed may have left some.
struct Waiting {
    const cuda::Stream &stream;
    ~Waiting() {
        try {
            stream.synchronize();
        } catch (const cuda::Failure &) {
        }
    }
};

// What differs between the versions of the library.

using RtContext = std::unique_ptr<trt::IExecutionContext>;

void allow_host_code([[maybe_unused]] trt::IRuntime &runtime) {
#if defined(FACEMESH_RTX) || NV_TENSORRT_MAJOR >= 10 || NV_TENSORRT_MINOR >= 6
    runtime.setEngineHostCodeAllowed(true);
#endif
}

#if defined(FACEMESH_RTX) || NV_TENSORRT_MAJOR > 10 || (NV_TENSORRT_MAJOR == 10 && NV_TENSORRT_MINOR >= 1)
size_t scratch_nbytes(const trt::ICudaEngine &engine) { return size_t(engine.getDeviceMemorySizeV2()); }
void set_scratch(trt::IExecutionContext &context, void *memory, size_t nbytes) {
    context.setDeviceMemoryV2(memory, int64_t(nbytes));
}
#else
size_t scratch_nbytes(const trt::ICudaEngine &engine) { return engine.getDeviceMemorySize(); }
void set_scratch(trt::IExecutionContext &context, void *memory, size_t) { context.setDeviceMemory(memory); }
#endif

// TensorRT tells by failing; TensorRT-RTX has a question for it, from some version on.
template <typename Context>
auto is_capturable(Context &context, cudaStream_t stream, int) -> decltype(context.isStreamCapturable(stream)) {
    return context.isStreamCapturable(stream);
}
template <typename Context> bool is_capturable(Context &, cudaStream_t, long) { return true; }

#ifdef FACEMESH_RTX
// Contexts of one engine with a shared cache of the code that the library compiles at their first run: without it
// every start of a program compiles anew, for seconds. See runtime/inference/trt/rtx_contexts.py.
class Contexts {
  public:
    Contexts(trt::ICudaEngine &engine, const std::string &path) : engine_(engine), path_(path + ".cache") {
        config_.reset(engine.createRuntimeConfig());
        if (!config_) return;
        // A captured graph keeps its kernels, so the ones for its size of batch must exist by then.
        config_->setDynamicShapesKernelSpecializationStrategy(trt::DynamicShapesKernelSpecializationStrategy::kEAGER);
        config_->setExecutionContextAllocationStrategy(trt::ExecutionContextAllocationStrategy::kUSER_MANAGED);
        config_->setCudaGraphStrategy(trt::CudaGraphStrategy::kDISABLED); // ours holds the copies, too
        cache_.reset(config_->createRuntimeCache());
        if (!cache_) return;
        try {
            content_ = read_file(path_, MOST_CACHE_BYTES, "");
            if (!cache_->deserialize(content_.data(), content_.size())) content_.clear();
        } catch (const Error &) { // the first start
        }
        config_->setRuntimeCache(*cache_);
    }

    RtContext make() { return RtContext(config_ ? engine_.createExecutionContext(config_.get()) : nullptr); }

    // Writes the code that was compiled since; a read-only folder only costs time at the next start.
    void save() {
        const std::unique_ptr<trt::IHostMemory> content(cache_ ? cache_->serialize() : nullptr);
        if (!content || content->size() == 0) return;
        const auto *bytes = static_cast<const unsigned char *>(content->data());
        if (content->size() == content_.size() && std::equal(content_.begin(), content_.end(), bytes)) return;
        content_.assign(bytes, bytes + content->size());
        write_whole(path_, content_.data(), content_.size());
    }

  private:
    trt::ICudaEngine &engine_;
    const std::string path_;
    std::unique_ptr<trt::IRuntimeConfig> config_;
    std::unique_ptr<trt::IRuntimeCache> cache_;
    Bytes content_;
};
#else
class Contexts {
  public:
    Contexts(trt::ICudaEngine &engine, const std::string &) : engine_(engine) {}

    RtContext make() {
#if NV_TENSORRT_MAJOR >= 10
        return RtContext(engine_.createExecutionContext(trt::ExecutionContextAllocationStrategy::kUSER_MANAGED));
#else
        return RtContext(engine_.createExecutionContextWithoutDeviceMemory());
#endif
    }
    void save() {}

  private:
    trt::ICudaEngine &engine_;
};
#endif

// Tensors

std::string name_of(trt::DataType type) {
    switch (type) {
    case trt::DataType::kFLOAT: return "FLOAT";
    case trt::DataType::kHALF: return "HALF";
    case trt::DataType::kINT8: return "INT8";
    case trt::DataType::kINT32: return "INT32";
    default: return "type " + std::to_string(int(type));
    }
}

template <typename Sides> std::string text_of(const Sides &sides, size_t count) {
    std::string text = "[";
    for (size_t axis = 0; axis < count; ++axis) text += (axis ? ", " : "") + std::to_string(sides[axis]);
    return text + "]";
}

std::vector<int64_t> with_batch(int64_t batch, std::vector<int64_t> sides) {
    sides.insert(sides.begin(), batch);
    return sides;
}

trt::Dims dims_of(const std::vector<int64_t> &sides) {
    trt::Dims dims{};
    dims.nbDims = int32_t(sides.size());
    for (size_t axis = 0; axis < sides.size(); ++axis)
        dims.d[axis] = static_cast<std::decay_t<decltype(dims.d[0])>>(sides[axis]);
    return dims;
}

// An input or output of one face.
struct Tensor {
    std::string name;
    trt::TensorIOMode mode;
    std::vector<int64_t> sides;
    bool is_half = false;

    size_t count() const {
        return size_t(std::accumulate(sides.begin(), sides.end(), int64_t(1), std::multiplies<int64_t>()));
    }
    size_t nbytes() const { return count() * (is_half ? sizeof(uint16_t) : sizeof(float)); }
};

// A loaded engine with the tensors of its spec. The CUDA context is current where it is made, used and freed.
class Engine {
  public:
    Engine(const std::string &path, const Manifest &manifest, const Bytes &bytes, const Library &library)
        : path_(path), version_(library.version(manifest.version)), command_(manifest.command) {
        Logger::get().listen(&messages_);
        try {
            load(manifest, bytes, library);
            look_at_tensors(manifest.spec);
        } catch (...) {
            Logger::get().leave(&messages_);
            throw;
        }
    }
    ~Engine() {
        contexts_.reset(), engine_.reset(), runtime_.reset(); // they may still say something
        Logger::get().leave(&messages_);
    }
    Engine(const Engine &) = delete;

    const Tensor &input() const { return tensors_[0]; }
    const Tensor &output() const { return tensors_[1]; }
    const Tensor *confidence() const { return tensors_.size() > 2 ? &tensors_[2] : nullptr; }
    size_t scratch() const { return scratch_nbytes(*engine_); }
    std::vector<std::string> warnings() { return messages_.warnings(); }

    // The size of batch for `count` faces: the next of 1, 2, 3, 4, 6, 8, 12, 16 …, within the engine's limits. `most`
    // is one, too.
    int padded(int count, int most) const {
        int power = 1;
        while (power < count) power *= 2;
        const int size = power > 2 && count <= power * 3 / 4 ? power * 3 / 4 : power;
        return std::max(smallest_, std::min({size, most, largest_}));
    }

    RtContext new_context(int batch) {
        messages_.forget();
        RtContext context = contexts_->make();
        if (!context) throw failure("makes no execution context for " + std::to_string(batch) + " faces");
        return context;
    }

    // Sets the sizes and addresses of a context, once, and runs it once: a library does a part of its work then.
    void prepare(trt::IExecutionContext &context, int batch, const std::vector<cuda::Address> &addresses,
                 const cuda::Stream &stream, cuda::Address scratch) {
        if (this->scratch() > 0) set_scratch(context, reinterpret_cast<void *>(scratch), this->scratch());
        if (is_dynamic_ && !takes_profile(context, stream))
            throw failure("lends this engine's profile to one size of batch alone, so give max_batch 1, or build it "
                          "again with '" +
                          command_ + "'");
        const char *unknown = nullptr;
        bool is_ready = context.setInputShape(input().name.c_str(), dims_of(with_batch(batch, input().sides)));
        for (size_t i = 0; is_ready && i < tensors_.size(); ++i)
            is_ready = context.setTensorAddress(tensors_[i].name.c_str(), reinterpret_cast<void *>(addresses[i]));
        if (!is_ready || context.inferShapes(1, &unknown) != 0)
            throw failure("refuses to run " + std::to_string(batch) + " faces");
        enqueue(context, stream);
        stream.synchronize();
        contexts_->save();
    }

    void enqueue(trt::IExecutionContext &context, const cuda::Stream &stream) {
        if (!context.enqueueV3(handle_of(stream))) throw failure("does not run this engine");
    }

    static cudaStream_t handle_of(const cuda::Stream &stream) {
        return reinterpret_cast<cudaStream_t>(stream.handle());
    }

  private:
    void load(const Manifest &manifest, const Bytes &bytes, const Library &library) {
        runtime_.reset(library.new_runtime());
        if (!runtime_) throw failure("does not start here");
        if (manifest.is_version_compatible()) allow_host_code(*runtime_);
        if (manifest.dla_core >= 0) runtime_->setDLACore(manifest.dla_core);
        engine_.reset(runtime_->deserializeCudaEngine(bytes.data(), bytes.size()));
        if (!engine_)
            throw failure("cannot load this engine, build it again here with '" + command_ + "'", FACEMESH_BAD_FILE);
        contexts_.emplace(*engine_, path_);
    }

    void look_at_tensors(const Spec &spec) {
        tensors_ = {{spec.input, trt::TensorIOMode::kINPUT, spec.input_shape()},
                    {spec.output, trt::TensorIOMode::kOUTPUT, spec.output_shape()}};
        if (!spec.confidence.empty()) tensors_.push_back({spec.confidence, trt::TensorIOMode::kOUTPUT, {1}});
        const int32_t count = engine_->getNbIOTensors();
        bool fits = size_t(count) == tensors_.size();
        for (Tensor &tensor : tensors_) fits = fits && is_there(tensor);
        if (!fits) {
            std::string wanted, found;
            for (const Tensor &tensor : tensors_)
                wanted += (wanted.empty() ? "" : ", ") + tensor.name + " " +
                          text_of(with_batch(-1, tensor.sides), tensor.sides.size() + 1);
            for (int32_t i = 0; i < count; ++i) {
                const char *name = engine_->getIOTensorName(i);
                const trt::Dims shape = engine_->getTensorShape(name);
                found += (found.empty() ? "" : ", ") + std::string(name) + " " +
                         name_of(engine_->getTensorDataType(name)) + " " +
                         text_of(shape.d, size_t(std::max(shape.nbDims, 0)));
            }
            throw bad_file(path_, "its spec wants " + wanted + ", FLOAT or HALF in plain order, the engine has " +
                                      found + "; build it again");
        }
        const int64_t batch = engine_->getTensorShape(spec.input.c_str()).d[0];
        is_dynamic_ = batch == -1;
        const auto limit = [&](trt::OptProfileSelector which) {
            return is_dynamic_ ? int64_t(engine_->getProfileShape(spec.input.c_str(), 0, which).d[0]) : batch;
        };
        const int64_t smallest = limit(trt::OptProfileSelector::kMIN), largest = limit(trt::OptProfileSelector::kMAX);
        if (smallest < 1 || smallest > MOST_BATCH || largest < smallest)
            throw bad_file(path_, "runs " + std::to_string(smallest) + " faces at once or more, 1 to " +
                                      std::to_string(MOST_BATCH) + " are possible; build it again with --batch");
        smallest_ = int(smallest);
        largest_ = int(std::min(largest, MOST_BATCH));
    }

    // True if a tensor is the spec's; it learns its type.
    bool is_there(Tensor &tensor) const {
        const char *name = tensor.name.c_str();
        if (engine_->getTensorIOMode(name) != tensor.mode) return false; // kNONE: there is none of this name
        const trt::Dims shape = engine_->getTensorShape(name);
        const trt::DataType type = engine_->getTensorDataType(name);
        tensor.is_half = type == trt::DataType::kHALF;
        return shape.nbDims == int(tensor.sides.size()) + 1 &&
               std::equal(tensor.sides.begin(), tensor.sides.end(), shape.d + 1) &&
               (tensor.is_half || type == trt::DataType::kFLOAT) && engine_->getTensorVectorizedDim(name) == -1;
    }

    // False if another context holds the profile: TensorRT 8 shares it only if the engine was built with
    // PROFILE_SHARING_0806.
    static bool takes_profile(trt::IExecutionContext &context, const cuda::Stream &stream) {
        return context.getOptimizationProfile() == 0 || context.setOptimizationProfileAsync(0, handle_of(stream));
    }

    // With the library's reasons.
    Error failure(const std::string &what, facemesh_status status = FACEMESH_FAILED) {
        return Error(status, path_ + ": " + NAME + " " + version_ + " " + what + ": " + messages_.reasons());
    }

    const std::string path_, version_, command_;
    Messages messages_;
    std::unique_ptr<trt::IRuntime> runtime_;
    std::unique_ptr<trt::ICudaEngine> engine_;
    std::optional<Contexts> contexts_;
    std::vector<Tensor> tensors_; // input, output and, where there is one, confidence
    bool is_dynamic_ = false;
    int smallest_ = 1, largest_ = 1; // size of batch
};

// Memory of the host and the device, allocated once. A size of batch is one graph: upload, network, download.
class Buffers {
  public:
    Buffers(const std::string &path, const Manifest &manifest, const Bytes &bytes, const Library &library,
            const std::shared_ptr<cuda::Context> &context, int max_batch)
        : engine_(path, manifest, bytes, library), most_(engine_.padded(max_batch, max_batch)), event_(false, false),
          scratch_(std::max(engine_.scratch(), size_t(1))),
          faces_start_(engine_.confidence() ? aligned(size_t(most_) * engine_.confidence()->nbytes()) : 0),
          staged_input_(context, size_t(most_) * engine_.input().nbytes(), false),
          staged_result_(context, faces_start_ + size_t(most_) * engine_.output().nbytes(), false),
          input_(size_t(most_) * engine_.input().nbytes()),
          result_(faces_start_ + size_t(most_) * engine_.output().nbytes()) {
        std::memset(staged_input_.data(), 0, size_t(most_) * engine_.input().nbytes());
        for (int count = 1; count <= most_; ++count) make(engine_.padded(count, most_));
    }
    Buffers(const Buffers &) = delete;

    Engine &engine() { return engine_; }
    int most() const { return most_; }
    void *input() { return staged_input_.data(); }
    const void *confidence() { return staged_result_.data(); }
    const void *faces() { return static_cast<unsigned char *>(staged_result_.data()) + faces_start_; }
    const std::string &no_graphs() const { return no_graphs_; }

    void run(int count) {
        Batch &batch = batches_.at(engine_.padded(count, most_));
        if (batch.graph)
            batch.graph->launch(stream_.handle());
        else
            enqueue(batch);
        event_.record(stream_.handle());
        event_.synchronize();
    }

  private:
    struct Batch {
        int size;
        RtContext context;
        std::optional<Closing<cuda::Graph>> graph; // closes before its context
    };

    static size_t aligned(size_t nbytes) { return (nbytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT; }

    void make(int size) {
        if (batches_.count(size)) return;
        const std::vector<cuda::Address> addresses = {input_.address(), result_.address() + faces_start_,
                                                      result_.address()};
        Batch &batch = batches_[size];
        batch.size = size;
        batch.context = engine_.new_context(size);
        engine_.prepare(*batch.context, size, addresses, stream_, scratch_.address());
        if (no_graphs_.empty()) capture(batch);
    }

    void enqueue(Batch &batch) {
        const size_t faces = size_t(batch.size);
        cuda::upload(input_.address(), uintptr_t(staged_input_.data()), faces * engine_.input().nbytes(),
                     stream_.handle());
        engine_.enqueue(*batch.context, stream_);
        cuda::download(uintptr_t(staged_result_.data()), result_.address(),
                       faces_start_ + faces * engine_.output().nbytes(), stream_.handle());
    }

    void capture(Batch &batch) {
        if (!is_capturable(*batch.context, Engine::handle_of(stream_), 0)) {
            no_graphs_ = "this engine allocates while it runs; build it again with this version";
            return;
        }
        try {
            cuda::begin_capture(stream_.handle());
            std::exception_ptr fault;
            try {
                enqueue(batch);
            } catch (...) {
                fault = std::current_exception();
            }
            try {
                batch.graph.emplace(stream_.handle()); // ends the capture
            } catch (const cuda::Failure &) {
                if (!fault) throw;
            }
            if (fault) {
                batch.graph.reset();
                std::rethrow_exception(fault);
            }
            batch.graph->upload(stream_.handle());
        } catch (const cuda::Failure &failure) {
            if (cuda::is_lost(failure)) throw;
            batch.graph.reset();
            no_graphs_ = cuda::line_of(failure);
        } catch (const Error &error) {
            no_graphs_ = error.what();
        }
    }

    Engine engine_; // freed last
    const int most_;
    Closing<cuda::Stream> stream_;
    Closing<cuda::Event> event_;
    Closing<cuda::DeviceMemory> scratch_; // contexts never run at the same time and share it
    const size_t faces_start_;            // the results are confidences, then faces: one download
    cuda::HostMemory staged_input_, staged_result_;
    Closing<cuda::DeviceMemory> input_, result_;
    std::map<int, Batch> batches_; // by size
    std::string no_graphs_;        // the reason, "" while graphs can be made
    const Waiting waiting_{stream_};
};

class TensorRTNetwork : public Network {
  public:
    TensorRTNetwork(const std::string &path, const Manifest &manifest, int max_batch) : path_(path) {
        const Bytes bytes = read_engine(path, manifest);
        const Library *const library = Library::find();
        const std::optional<cuda::DeviceInfo> device = find_device();
        const std::string version = library ? library->version(manifest.version) : "";
        const std::string remedy =
            std::string("install ") + TITLE + ", or name the folder of " + LIBRARY + " in LD_LIBRARY_PATH";
        const std::string obstacle = manifest.why_not(version, device ? &*device : nullptr, remedy);
        if (!obstacle.empty())
            throw Error(library && device ? FACEMESH_BAD_FILE : FACEMESH_NO_BACKEND, path + ": " + obstacle);
        if (const std::string doubt = manifest.doubt(*device); !doubt.empty()) warn(doubt);
        guarded([&] {
            context_ = std::make_shared<cuda::Context>();
            const Current current(*context_);
            buffers_.emplace(path, manifest, bytes, *library, context_, max_batch);
            try {
                open_views();
                buffers_->run(1);
            } catch (...) {
                buffers_.reset(); // while the context is current
                throw;
            }
        });
    }
    ~TensorRTNetwork() override {
        const Current current(*context_);
        buffers_.reset();
    }

    int max_batch() const override { return buffers_->most(); }
    float *input(int slot) override { return input_ + size_t(slot) * input_count_; }
    const float *output(int slot) const override { return output_ + size_t(slot) * output_count_; }
    float confidence(int slot) const override { return confidence_ ? confidence_[slot] : FACEMESH_NO_CONFIDENCE; }
    std::string warnings() const override { return warnings_; }

    void run(int count) override {
        guarded([&] {
            const Current current(*context_);
            const size_t faces = size_t(count);
            if (!floats_.empty()) to_half(input_, faces * input_count_, static_cast<uint16_t *>(buffers_->input()));
            buffers_->run(count);
            if (!output_floats_.empty()) from_half(buffers_->faces(), faces * output_count_, output_floats_.data());
            if (!confidence_floats_.empty()) from_half(buffers_->confidence(), faces, confidence_floats_.data());
        });
    }

  private:
    static std::optional<cuda::DeviceInfo> find_device() {
        try {
            return cuda::first_device_info();
        } catch (const cuda::Failure &) {
            return std::nullopt;
        }
    }

    static void to_half(const float *from, size_t count, uint16_t *to) {
        for (size_t i = 0; i < count; ++i) to[i] = half_from_float(from[i]);
    }
    static void from_half(const void *from, size_t count, float *to) {
        for (size_t i = 0; i < count; ++i) to[i] = float_from_half(static_cast<const uint16_t *>(from)[i]);
    }

    void warn(const std::string &line) { warnings_ += path_ + ": " + line + "\n"; }

    // Failures of CUDA as errors.
    template <typename Call> void guarded(Call call) {
        try {
            call();
        } catch (const cuda::Failure &failure) {
            throw Error(FACEMESH_FAILED, path_ + ": " + cuda::line_of(failure));
        }
    }

    // Where the numbers of a tensor lie as float32: in the page-locked memory itself, unless the engine has halves.
    void open_views() {
        Engine &engine = buffers_->engine();
        const size_t most = size_t(buffers_->most());
        input_count_ = engine.input().count();
        output_count_ = engine.output().count();
        floats_.resize(engine.input().is_half ? most * input_count_ : 0);
        output_floats_.resize(engine.output().is_half ? most * output_count_ : 0);
        input_ = floats_.empty() ? static_cast<float *>(buffers_->input()) : floats_.data();
        output_ = output_floats_.empty() ? static_cast<const float *>(buffers_->faces()) : output_floats_.data();
        if (const Tensor *confidence = engine.confidence()) {
            confidence_floats_.resize(confidence->is_half ? most : 0);
            confidence_ =
                confidence->is_half ? confidence_floats_.data() : static_cast<const float *>(buffers_->confidence());
        }
        if (!buffers_->no_graphs().empty())
            warn("no CUDA graph can be made (" + buffers_->no_graphs() +
                 "); every step is launched by itself, which takes longer");
        for (const std::string &warning : engine.warnings()) warn(warning);
    }

    const std::string path_;
    std::string warnings_;
    std::shared_ptr<cuda::Context> context_;
    std::optional<Buffers> buffers_;
    float *input_ = nullptr;
    const float *output_ = nullptr, *confidence_ = nullptr;
    size_t input_count_ = 0, output_count_ = 0;
    std::vector<float> floats_, output_floats_, confidence_floats_; // of engines with halves
};

} // namespace

#ifdef FACEMESH_RTX
std::unique_ptr<Network> open_tensorrt_rtx_network(const std::string &path, const Manifest &manifest, int max_batch) {
#else
std::unique_ptr<Network> open_tensorrt_network(const std::string &path, const Manifest &manifest, int max_batch) {
#endif
    return std::make_unique<TensorRTNetwork>(path, manifest, max_batch);
}

} // namespace facemesh
