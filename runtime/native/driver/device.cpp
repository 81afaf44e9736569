#include "device.h"

#include <utility>

namespace facemesh::cuda {
namespace {

Handle as_handle(uintptr_t handle) { return reinterpret_cast<Handle>(handle); }

int first_device() {
    int device = 0;
    FACEMESH_CALL(cuInit, 0);
    FACEMESH_CALL(cuDeviceGet, &device, 0);
    return device;
}

int attribute(int number, int device) {
    int value = 0;
    FACEMESH_CALL(cuDeviceGetAttribute, &value, number, device);
    return value;
}

} // namespace

DeviceInfo first_device_info() {
    const int device = first_device();
    char name[256] = "";
    FACEMESH_CALL(cuDeviceGetName, name, int(sizeof name - 1), device);
    const std::string major = std::to_string(attribute(ATTRIBUTE_CAPABILITY_MAJOR, device)),
                      minor = std::to_string(attribute(ATTRIBUTE_CAPABILITY_MINOR, device));
    return {name, major + "." + minor, attribute(ATTRIBUTE_INTEGRATED, device) != 0,
            attribute(ATTRIBUTE_MULTIPROCESSORS, device)};
}

void spin_while_waiting() {
    const Status status = driver().cuDevicePrimaryCtxSetFlags(first_device(), CTX_SCHED_SPIN);
    if (status != PRIMARY_CONTEXT_ACTIVE) check(status, "cuDevicePrimaryCtxSetFlags");
}

Context::Context() : device_(first_device()) { FACEMESH_CALL(cuDevicePrimaryCtxRetain, &handle_, device_); }

Context::~Context() { driver().cuDevicePrimaryCtxRelease(device_); }

void Context::make_current() const { FACEMESH_CALL(cuCtxSetCurrent, handle_); }

void Context::push() const { FACEMESH_CALL(cuCtxPushCurrent, handle_); }

void Context::pop() const {
    Handle popped = nullptr;
    FACEMESH_CALL(cuCtxPopCurrent, &popped);
}

bool Context::try_push() const noexcept { return driver().cuCtxPushCurrent(handle_) == SUCCESS; }

Stream::Stream() { FACEMESH_CALL(cuStreamCreate, &handle_, STREAM_NON_BLOCKING); }

void Stream::synchronize() const { FACEMESH_CALL(cuStreamSynchronize, handle_); }

void Stream::close() {
    if (handle_ != nullptr) FACEMESH_CALL(cuStreamDestroy, std::exchange(handle_, nullptr));
}

Event::Event(bool blocking, bool timing) {
    const unsigned flags = (blocking ? EVENT_BLOCKING_SYNC : 0) | (timing ? 0 : EVENT_DISABLE_TIMING);
    FACEMESH_CALL(cuEventCreate, &handle_, flags);
}

void Event::record(uintptr_t stream) const { FACEMESH_CALL(cuEventRecord, handle_, as_handle(stream)); }

void Event::hold(uintptr_t stream) const { FACEMESH_CALL(cuStreamWaitEvent, as_handle(stream), handle_, 0); }

void Event::synchronize() const { FACEMESH_CALL(cuEventSynchronize, handle_); }

bool Event::done() const {
    const Status status = driver().cuEventQuery(handle_);
    if (status != NOT_READY) check(status, "cuEventQuery");
    return status == SUCCESS;
}

float Event::elapsed_ms(const Event &since) const {
    float milliseconds = 0;
    FACEMESH_CALL(cuEventElapsedTime, &milliseconds, since.handle_, handle_);
    return milliseconds;
}

void Event::close() {
    if (handle_ != nullptr) FACEMESH_CALL(cuEventDestroy, std::exchange(handle_, nullptr));
}

DeviceMemory::DeviceMemory(size_t nbytes) { FACEMESH_CALL(cuMemAlloc, &address_, nbytes); }

void DeviceMemory::close() {
    if (address_ != 0) FACEMESH_CALL(cuMemFree, std::exchange(address_, 0));
}

HostMemory::HostMemory(std::shared_ptr<Context> context, size_t nbytes, bool mapped) : context_(std::move(context)) {
    FACEMESH_CALL(cuMemHostAlloc, &data_, nbytes, mapped ? MEMHOSTALLOC_DEVICEMAP : 0);
    if (!mapped) return;
    const Status status = driver().cuMemHostGetDevicePointer(&device_address_, data_, 0);
    if (status == SUCCESS) return;
    driver().cuMemFreeHost(data_);
    raise(status, "cuMemHostGetDevicePointer");
}

// Statuses tell nothing that anyone could act on: the device is lost, or the process is ending.
HostMemory::~HostMemory() {
    Handle popped = nullptr;
    const bool is_pushed = context_ != nullptr && context_->try_push();
    driver().cuMemFreeHost(data_);
    if (is_pushed) driver().cuCtxPopCurrent(&popped);
}

void upload(Address to, uintptr_t source, size_t nbytes, uintptr_t stream) {
    FACEMESH_CALL(cuMemcpyHtoDAsync, to, as_handle(source), nbytes, as_handle(stream));
}

void download(uintptr_t to, Address source, size_t nbytes, uintptr_t stream) {
    FACEMESH_CALL(cuMemcpyDtoHAsync, as_handle(to), source, nbytes, as_handle(stream));
}

MemoryInfo memory_info() {
    MemoryInfo info = {0, 0};
    FACEMESH_CALL(cuMemGetInfo, &info.free, &info.total);
    return info;
}

// Thread-local: calls that a capture forbids (an allocation, say) fail when this thread makes them, because they would
// not be in the graph; other threads (another pipeline, another library) may go on making them.
void begin_capture(uintptr_t stream) {
    FACEMESH_CALL(cuStreamBeginCapture, as_handle(stream), STREAM_CAPTURE_MODE_THREAD_LOCAL);
}

Graph::Graph(uintptr_t stream) {
    Handle graph = nullptr;
    // A failed capture ends, too: the stream is usable again.
    FACEMESH_CALL(cuStreamEndCapture, as_handle(stream), &graph);
    const Status status = driver().cuGraphInstantiate(&executable_, graph, 0);
    driver().cuGraphDestroy(graph);
    check(status, "cuGraphInstantiate");
}

void Graph::upload(uintptr_t stream) const { FACEMESH_CALL(cuGraphUpload, executable_, as_handle(stream)); }

void Graph::launch(uintptr_t stream) const {
    if (executable_ == nullptr) throw Failure("cuGraphLaunch", "", "the graph is closed");
    FACEMESH_CALL(cuGraphLaunch, executable_, as_handle(stream));
}

// Its status tells nothing that a caller could act on: an earlier call's, or that the process is ending.
void Graph::close() noexcept {
    if (executable_ != nullptr) driver().cuGraphExecDestroy(std::exchange(executable_, nullptr));
}

} // namespace facemesh::cuda
