// A stand-in for the CUDA driver, libcuda.so.1, over host memory: what the bindings behind runtime/cuda/ call, and no
// more.
//
// Kernels are their host twins, found by the names that the PTX has. Work on a stream is only queued; a wait does it, so that results read before a wait are not there, and an event's
// first query after new work says "not ready". Device memory and page-locked memory start as 0xA5. Copies must stay
// inside live allocations of the right kind. The fake_... functions at the end are for the tests: fail a call, read the
// log, count what is not released.
#include <dlfcn.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "gpu/host_kernels.h"

namespace {

using namespace facemesh;
using Status = int;
using Work = std::function<void()>;
constexpr Status SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NOT_INITIALIZED = 3, INVALID_DEVICE = 101,
                 INVALID_CONTEXT = 201, INVALID_PTX = 218, INVALID_HANDLE = 400, NOT_FOUND = 500, NOT_READY = 600,
                 CAPTURE_UNSUPPORTED = 900;
constexpr size_t TOTAL_MEMORY = size_t(1) << 30;
constexpr unsigned DISABLE_TIMING = 2, DEVICEMAP = 2;

struct Text {
    const char *name, *text; // as the real driver has them
};
const std::map<Status, Text> TEXTS = {
    {0, {"CUDA_SUCCESS", "no error"}},
    {1, {"CUDA_ERROR_INVALID_VALUE", "invalid argument"}},
    {2, {"CUDA_ERROR_OUT_OF_MEMORY", "out of memory"}},
    {3, {"CUDA_ERROR_NOT_INITIALIZED", "initialization error"}},
    {4, {"CUDA_ERROR_DEINITIALIZED", "driver shutting down"}},
    {34, {"CUDA_ERROR_STUB_LIBRARY", "CUDA driver is a stub library"}},
    {46, {"CUDA_ERROR_DEVICE_UNAVAILABLE", "CUDA-capable device(s) is/are busy or unavailable"}},
    {100, {"CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"}},
    {101, {"CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"}},
    {201, {"CUDA_ERROR_INVALID_CONTEXT", "invalid device context"}},
    {209, {"CUDA_ERROR_NO_BINARY_FOR_GPU", "no kernel image is available for execution on the device"}},
    {218, {"CUDA_ERROR_INVALID_PTX", "a PTX JIT compilation failed"}},
    {222, {"CUDA_ERROR_UNSUPPORTED_PTX_VERSION", "the provided PTX was compiled with an unsupported toolchain."}},
    {708, {"CUDA_ERROR_PRIMARY_CONTEXT_ACTIVE", "cannot set while device is active in this process"}},
    {400, {"CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"}},
    {500, {"CUDA_ERROR_NOT_FOUND", "named symbol not found"}},
    {600, {"CUDA_ERROR_NOT_READY", "device not ready"}},
    {700, {"CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"}},
    {719, {"CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"}},
    {803, {"CUDA_ERROR_SYSTEM_DRIVER_MISMATCH", "system has unsupported display driver / cuda driver combination"}},
    {900, {"CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", "operation not permitted when stream is capturing"}},
};

struct Stream {
    std::deque<Work> queue;
    bool capturing = false;
    std::vector<Work> captured;

    void add(Work work) {
        if (capturing)
            captured.push_back(std::move(work));
        else
            queue.push_back(std::move(work));
    }
    void run() {
        while (!queue.empty()) {
            Work work = std::move(queue.front());
            queue.pop_front();
            work();
        }
    }
};

struct Event {
    unsigned flags = 0;
    Stream *stream = nullptr;
    int recorded = 0, reached = 0; // how often
    bool polled = false;
    float milliseconds = 0;
};

struct Memory {
    size_t nbytes = 0;
    bool is_host = false, mapped = false;
};

struct Graph {
    std::vector<Work> work;
};

struct Module {
    std::string text;
    std::vector<std::string *> functions; // their names
};

struct Fault {
    int calls_left;
    Status status;
};

bool initialised = false;
int retained = 0, leaked = 0;
thread_local int depth = 0; // of the context stack; there is only the primary context
char context;               // its address is the handle
Status lost = SUCCESS;
float clock_ms = 0;
std::string log_text;
std::map<std::string, Fault> faults;
std::set<Stream *> streams;
std::set<Event *> events;
std::set<Graph *> graphs; // captured ones and executable ones
std::set<Module *> modules;
std::map<uintptr_t, Memory> memories;

int live() {
    return int(streams.size() + events.size() + graphs.size() + modules.size() + memories.size()) + retained;
}

bool holds(uintptr_t pointer, size_t nbytes, bool (*fits)(const Memory &)) {
    auto next = memories.upper_bound(pointer);
    if (next == memories.begin()) return false;
    const auto &[start, memory] = *--next;
    return pointer + nbytes <= start + memory.nbytes && fits(memory);
}
bool in_host(const void *pointer, size_t nbytes) {
    return holds(uintptr_t(pointer), nbytes, [](const Memory &memory) { return memory.is_host; });
}
bool in_device(uintptr_t pointer, size_t nbytes) {
    return holds(pointer, nbytes, [](const Memory &memory) { return !memory.is_host || memory.mapped; });
}

// Logs a call; its status unless it is to be made.
template <typename... Details> Status enter(const char *call, Details... details) {
    std::ostringstream line;
    line << call;
    ((line << ' ' << details), ...);
    log_text += line.str() + '\n';
    if (auto fault = faults.find(call); fault != faults.end() && --fault->second.calls_left <= 0) {
        const Status status = fault->second.status;
        if ((status >= 700 && status < 720 && status != 708) || status == 46) lost = status;
        return status;
    }
    return lost;
}
template <typename... Details> Status enter_context(const char *call, Details... details) {
    if (const Status status = enter(call, details...); status != SUCCESS) return status;
    return !initialised ? NOT_INITIALIZED : depth == 0 || retained == 0 ? INVALID_CONTEXT : SUCCESS;
}
// The same for calls that a capture forbids.
template <typename... Details> Status enter_idle(const char *call, Details... details) {
    if (const Status status = enter_context(call, details...); status != SUCCESS) return status;
    for (const Stream *stream : streams)
        if (stream->capturing) return CAPTURE_UNSUPPORTED;
    return SUCCESS;
}

void wait_for_device() {
    for (Stream *stream : streams)
        if (lost == SUCCESS)
            stream->run();
        else
            stream->queue.clear();
}
Status allocate(size_t nbytes, bool is_host, bool mapped, void **out) {
    if (nbytes == 0) return INVALID_VALUE;
    if (nbytes > TOTAL_MEMORY) return OUT_OF_MEMORY;
    *out = std::malloc(nbytes);
    std::memset(*out, 0xA5, nbytes);
    memories[uintptr_t(*out)] = {nbytes, is_host, mapped};
    return SUCCESS;
}
Status release(void *pointer, bool is_host, Status status) {
    const auto found = memories.find(uintptr_t(pointer));
    if (found == memories.end() || found->second.is_host != is_host) return INVALID_VALUE;
    wait_for_device();
    memories.erase(found);
    std::free(pointer);
    return status;
}
void wait_for(Event *event) {
    while (event->reached < event->recorded && event->stream != nullptr && !event->stream->queue.empty()) {
        Work work = std::move(event->stream->queue.front());
        event->stream->queue.pop_front();
        work();
    }
}

} // namespace

#define RETURN_UNLESS(call)                                                                                            \
    if (const Status status_of_call = (call); status_of_call != SUCCESS) return status_of_call
// Of a release: what it releases is gone also where it reports that the device is lost.
#define RETURN_UNLESS_LOST(status)                                                                                     \
    if (status != SUCCESS && status != lost) return status
#define EXPORT extern "C" __attribute__((visibility("default")))

EXPORT Status cuInit(unsigned) {
    RETURN_UNLESS(enter("cuInit"));
    initialised = true;
    return SUCCESS;
}
EXPORT Status cuDriverGetVersion(int *version) { return *version = 13000, SUCCESS; }
EXPORT Status cuDeviceGet(int *device, int ordinal) {
    RETURN_UNLESS(enter("cuDeviceGet", ordinal));
    return !initialised ? NOT_INITIALIZED : ordinal != 0 ? INVALID_DEVICE : (*device = 0, SUCCESS);
}
EXPORT Status cuDeviceGetName(char *name, int size, int) {
    RETURN_UNLESS(enter("cuDeviceGetName"));
    return std::snprintf(name, size_t(size), "Stand-in"), SUCCESS;
}
EXPORT Status cuDeviceGetAttribute(int *value, int attribute, int) {
    RETURN_UNLESS(enter("cuDeviceGetAttribute", attribute));
    const std::map<int, int> values = {{16, 8}, {18, 1}, {75, 8}, {76, 7}}; // multiprocessors, integrated, capability
    return values.count(attribute) ? (*value = values.at(attribute), SUCCESS) : INVALID_VALUE;
}
EXPORT Status cuDevicePrimaryCtxSetFlags_v2(int, unsigned flags) {
    RETURN_UNLESS(enter("cuDevicePrimaryCtxSetFlags", flags));
    return initialised ? SUCCESS : NOT_INITIALIZED;
}
EXPORT Status cuDevicePrimaryCtxRetain(void **out, int) {
    RETURN_UNLESS(enter("cuDevicePrimaryCtxRetain"));
    if (!initialised) return NOT_INITIALIZED;
    ++retained, *out = &context;
    return SUCCESS;
}
EXPORT Status cuDevicePrimaryCtxRelease_v2(int) {
    const Status status = enter("cuDevicePrimaryCtxRelease");
    if (retained == 0) return INVALID_CONTEXT;
    if (--retained == 0) { // all goes with it, on a lost device too
        leaked += live();
        streams.clear(), events.clear(), graphs.clear(), modules.clear(), memories.clear();
    }
    return status;
}
EXPORT Status cuCtxPushCurrent_v2(void *pushed) {
    RETURN_UNLESS(enter("cuCtxPushCurrent"));
    return pushed != &context || retained == 0 ? INVALID_CONTEXT : (++depth, SUCCESS);
}
EXPORT Status cuCtxSetCurrent(void *chosen) {
    RETURN_UNLESS(enter("cuCtxSetCurrent"));
    return chosen != &context || retained == 0 ? INVALID_CONTEXT : (depth = depth ? depth : 1, SUCCESS);
}
EXPORT Status cuCtxPopCurrent_v2(void **popped) {
    const Status status = enter("cuCtxPopCurrent");
    RETURN_UNLESS_LOST(status);
    return depth == 0 ? INVALID_CONTEXT : (--depth, *popped = &context, status);
}

EXPORT Status cuStreamCreate(Stream **out, unsigned flags) {
    RETURN_UNLESS(enter_idle("cuStreamCreate", flags));
    return streams.insert(*out = new Stream), SUCCESS;
}
EXPORT Status cuStreamDestroy_v2(Stream *stream) {
    const Status status = enter_idle("cuStreamDestroy");
    RETURN_UNLESS_LOST(status);
    if (!streams.count(stream)) return INVALID_HANDLE;
    wait_for_device();
    for (Event *event : events)
        if (event->stream == stream) event->stream = nullptr;
    streams.erase(stream);
    delete stream;
    return status;
}
EXPORT Status cuStreamSynchronize(Stream *stream) {
    RETURN_UNLESS(enter_idle("cuStreamSynchronize"));
    return !streams.count(stream) ? INVALID_HANDLE : (stream->run(), SUCCESS);
}

EXPORT Status cuEventCreate(Event **out, unsigned flags) {
    RETURN_UNLESS(enter_idle("cuEventCreate", flags));
    events.insert(*out = new Event);
    (*out)->flags = flags;
    return SUCCESS;
}
EXPORT Status cuEventDestroy_v2(Event *event) {
    const Status status = enter_idle("cuEventDestroy");
    RETURN_UNLESS_LOST(status);
    if (!events.count(event)) return INVALID_HANDLE;
    wait_for_device(); // what is queued may mark it
    events.erase(event);
    delete event;
    return status;
}
EXPORT Status cuEventRecord(Event *event, Stream *stream) {
    RETURN_UNLESS(enter_context("cuEventRecord"));
    if (!events.count(event) || !streams.count(stream)) return INVALID_HANDLE;
    event->stream = stream, event->polled = false;
    const int mark = ++event->recorded;
    stream->add([event, mark] { event->reached = mark, event->milliseconds = ++clock_ms; });
    return SUCCESS;
}
EXPORT Status cuStreamWaitEvent(Stream *stream, Event *event, unsigned) {
    RETURN_UNLESS(enter_context("cuStreamWaitEvent"));
    if (!events.count(event) || !streams.count(stream)) return INVALID_HANDLE;
    const int mark = event->recorded;
    Stream *recorded = event->stream;
    stream->add([event, mark, recorded] {
        if (event->reached < mark) recorded->run();
    });
    return SUCCESS;
}
EXPORT Status cuEventSynchronize(Event *event) {
    RETURN_UNLESS(enter_idle("cuEventSynchronize"));
    return !events.count(event) ? INVALID_HANDLE : (wait_for(event), SUCCESS);
}
EXPORT Status cuEventQuery(Event *event) {
    RETURN_UNLESS(enter_idle("cuEventQuery"));
    if (!events.count(event)) return INVALID_HANDLE;
    if (event->polled) wait_for(event);
    event->polled = true;
    return event->reached < event->recorded ? NOT_READY : SUCCESS;
}
EXPORT Status cuEventElapsedTime_v2(float *milliseconds, Event *start, Event *end) {
    RETURN_UNLESS(enter_idle("cuEventElapsedTime"));
    if (!events.count(start) || !events.count(end) || ((start->flags | end->flags) & DISABLE_TIMING))
        return INVALID_HANDLE;
    if (!start->recorded || !end->recorded) return INVALID_HANDLE;
    if (start->reached < start->recorded || end->reached < end->recorded) return NOT_READY;
    return *milliseconds = end->milliseconds - start->milliseconds, SUCCESS;
}
EXPORT Status cuEventElapsedTime(float *milliseconds, Event *start, Event *end) {
    return cuEventElapsedTime_v2(milliseconds, start, end);
}

EXPORT Status cuMemAlloc_v2(void **out, size_t nbytes) {
    RETURN_UNLESS(enter_idle("cuMemAlloc", nbytes));
    return allocate(nbytes, false, false, out);
}
EXPORT Status cuMemFree_v2(void *pointer) {
    const Status status = enter_idle("cuMemFree");
    RETURN_UNLESS_LOST(status);
    return release(pointer, false, status);
}
EXPORT Status cuMemHostAlloc(void **out, size_t nbytes, unsigned flags) {
    RETURN_UNLESS(enter_idle("cuMemHostAlloc", nbytes, flags));
    return allocate(nbytes, true, flags & DEVICEMAP, out);
}
EXPORT Status cuMemFreeHost(void *pointer) {
    const Status status = enter_idle("cuMemFreeHost");
    RETURN_UNLESS_LOST(status);
    return release(pointer, true, status);
}
EXPORT Status cuMemHostGetDevicePointer_v2(uintptr_t *out, void *pointer, unsigned) {
    RETURN_UNLESS(enter_context("cuMemHostGetDevicePointer"));
    return in_host(pointer, 1) && in_device(uintptr_t(pointer), 1) ? (*out = uintptr_t(pointer), SUCCESS)
                                                                   : INVALID_VALUE;
}
EXPORT Status cuMemcpyHtoDAsync_v2(uintptr_t to, const void *source, size_t nbytes, Stream *stream) {
    RETURN_UNLESS(enter_context("cuMemcpyHtoDAsync", nbytes));
    if (!streams.count(stream)) return INVALID_HANDLE;
    if (!in_host(source, nbytes) || !in_device(to, nbytes)) return INVALID_VALUE;
    return stream->add([=] { std::memcpy(reinterpret_cast<void *>(to), source, nbytes); }), SUCCESS;
}
EXPORT Status cuMemcpyDtoHAsync_v2(void *to, uintptr_t source, size_t nbytes, Stream *stream) {
    RETURN_UNLESS(enter_context("cuMemcpyDtoHAsync", nbytes));
    if (!streams.count(stream)) return INVALID_HANDLE;
    if (!in_host(to, nbytes) || !in_device(source, nbytes)) return INVALID_VALUE;
    return stream->add([=] { std::memcpy(to, reinterpret_cast<void *>(source), nbytes); }), SUCCESS;
}
EXPORT Status cuMemGetInfo_v2(size_t *free, size_t *total) {
    RETURN_UNLESS(enter_context("cuMemGetInfo"));
    *free = *total = TOTAL_MEMORY;
    for (const auto &[start, memory] : memories)
        if (!memory.is_host) *free -= memory.nbytes;
    return SUCCESS;
}

// PTX alone: the device of this stand-in has no machine code.
EXPORT Status cuModuleLoadData(Module **out, const void *image) {
    RETURN_UNLESS(enter_idle("cuModuleLoadData"));
    const std::string text(static_cast<const char *>(image));
    if (text.find(".target sm_75") == std::string::npos) return INVALID_PTX;
    return modules.insert(*out = new Module{text, {}}), SUCCESS;
}
EXPORT Status cuModuleGetFunction(std::string **out, Module *module, const char *name) {
    RETURN_UNLESS(enter_context("cuModuleGetFunction", name));
    if (!modules.count(module)) return INVALID_HANDLE;
    if (module->text.find(std::string(".entry ") + name + '(') == std::string::npos) return NOT_FOUND;
    module->functions.push_back(*out = new std::string(name));
    return SUCCESS;
}
EXPORT Status cuModuleUnload(Module *module) {
    const Status status = enter_idle("cuModuleUnload");
    RETURN_UNLESS_LOST(status);
    if (!modules.erase(module)) return status != SUCCESS ? status : INVALID_HANDLE;
    for (std::string *function : module->functions) delete function;
    delete module;
    return status;
}
EXPORT Status cuLaunchKernel(std::string *function, unsigned columns, unsigned rows, unsigned, unsigned threads, unsigned,
                             unsigned, unsigned, Stream *stream, void **parameters, void **) {
    RETURN_UNLESS(enter_context("cuLaunchKernel", *function, columns, rows, threads));
    if (!streams.count(stream)) return INVALID_HANDLE;
    const auto queue = [&](auto task, void (*run)(const decltype(task) &)) {
        stream->add([task, run] { run(task); });
        return SUCCESS;
    };
    if (*function == "facemesh_crop") return queue(*static_cast<CropTask *>(*parameters), host::crop);
    if (*function == "facemesh_decode") return queue(*static_cast<DecodeTask *>(*parameters), host::decode);
    if (*function == "facemesh_decode_coefficients")
        return queue(*static_cast<CoefficientTask *>(*parameters), host::decode_coefficients);
    if (*function == "facemesh_face_rows") return queue(*static_cast<FaceRowTask *>(*parameters), host::face_rows);
    return NOT_FOUND;
}

// Work that TensorRT's stand-in queues.
EXPORT Status cuLaunchHostFunc(Stream *stream, void (*function)(void *), void *data) {
    RETURN_UNLESS(enter_context("cuLaunchHostFunc"));
    if (!streams.count(stream)) return INVALID_HANDLE;
    return stream->add([=] { function(data); }), SUCCESS;
}
EXPORT Status cuStreamIsCapturing(Stream *stream, int *is_capturing) {
    return streams.count(stream) ? (*is_capturing = stream->capturing, SUCCESS) : INVALID_HANDLE;
}

EXPORT Status cuStreamBeginCapture_v2(Stream *stream, int) {
    RETURN_UNLESS(enter_idle("cuStreamBeginCapture"));
    return stream->capturing = true, SUCCESS;
}
EXPORT Status cuStreamEndCapture(Stream *stream, Graph **out) {
    stream->capturing = false;
    const auto work = std::move(stream->captured);
    stream->captured.clear();
    RETURN_UNLESS(enter_context("cuStreamEndCapture"));
    return graphs.insert(*out = new Graph{work}), SUCCESS;
}
EXPORT Status cuGraphInstantiateWithFlags(Graph **out, Graph *graph, unsigned long long) {
    RETURN_UNLESS(enter_idle("cuGraphInstantiate"));
    return graphs.insert(*out = new Graph{graph->work}), SUCCESS;
}
EXPORT Status cuGraphUpload(Graph *graph, Stream *stream) {
    RETURN_UNLESS(enter_idle("cuGraphUpload"));
    return !graphs.count(graph) || !streams.count(stream) ? INVALID_HANDLE : SUCCESS;
}
EXPORT Status cuGraphExecDestroy(Graph *graph) {
    const Status status = enter_idle("cuGraphExecDestroy");
    RETURN_UNLESS_LOST(status);
    return graphs.erase(graph), delete graph, status;
}
EXPORT Status cuGraphLaunch(Graph *graph, Stream *stream) {
    RETURN_UNLESS(enter_idle("cuGraphLaunch"));
    for (const Work &work : graph->work) stream->add(work);
    return SUCCESS;
}
EXPORT Status cuGraphDestroy(Graph *graph) {
    const Status status = enter_idle("cuGraphDestroy");
    RETURN_UNLESS_LOST(status);
    return graphs.erase(graph), delete graph, status;
}

EXPORT Status cuGetErrorName(Status status, const char **out) {
    return TEXTS.count(status) ? (*out = TEXTS.at(status).name, SUCCESS) : (*out = nullptr, INVALID_VALUE);
}
EXPORT Status cuGetErrorString(Status status, const char **out) {
    return TEXTS.count(status) ? (*out = TEXTS.at(status).text, SUCCESS) : (*out = nullptr, INVALID_VALUE);
}
EXPORT Status cuGetProcAddress_v2(const char *name, void **out, int, uint64_t, int *found) {
    *out = dlsym(RTLD_DEFAULT, (std::string(name) + "_v2").c_str());
    if (*out == nullptr) *out = dlsym(RTLD_DEFAULT, name);
    if (found != nullptr) *found = *out != nullptr ? 0 : 1;
    return *out != nullptr ? SUCCESS : NOT_FOUND;
}

// The nth call of this name from now on fails, and all after it; a status that loses the device fails every call of any
// name from then on.
EXPORT void fake_fail(const char *call, int nth, Status status) { faults[call] = {nth, status}; }
// Forget faults and log.
EXPORT void fake_heal() { faults.clear(), lost = SUCCESS, log_text.clear(), leaked = 0; }
EXPORT const char *fake_log() { return log_text.c_str(); }
// Resources and retained contexts there are now, or that a released context had to take with it.
EXPORT int fake_live() { return live() + leaked; }
EXPORT int fake_depth() { return depth; }
