// Python bindings of _native.driver: resources of the first CUDA device. runtime.cuda.native_binding builds on them.
#include "bind_driver.h"

#include <nanobind/ndarray.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>

#include <cstdint>
#include <exception>
#include <memory>

#include "driver/device.h"

namespace nb = nanobind;
using namespace nb::literals;
using namespace facemesh::cuda;

namespace {

using Bytes = nb::ndarray<nb::numpy, uint8_t, nb::ndim<1>>;
using ReleaseGil = nb::call_guard<nb::gil_scoped_release>;

// The class that failures are raised as; it lives as long as the process.
PyObject *failure_type = PyExc_RuntimeError;

void translate(const std::exception_ptr &error, void *) {
    try {
        std::rethrow_exception(error);
    } catch (const Failure &failure) {
        const nb::object raised =
            nb::borrow(failure_type)(failure.call, failure.status, failure.explanation);
        PyErr_SetObject(failure_type, raised.ptr());
    }
}

// Until close() or the end of the last page-locked memory, whichever is later, the context is retained.
struct OpenContext {
    std::shared_ptr<Context> context = std::make_shared<Context>();

    const Context &get() const {
        if (context == nullptr) throw Failure("make_current", "CUDA_ERROR_INVALID_CONTEXT", "");
        return *context;
    }
    void close() { context.reset(); }
};

struct PageLocked {
    std::shared_ptr<HostMemory> memory;
    size_t nbytes;

    // It owns the memory, too.
    Bytes array() const {
        const nb::capsule owner(new std::shared_ptr<HostMemory>(memory), [](void *pointer) noexcept {
            delete static_cast<std::shared_ptr<HostMemory> *>(pointer);
        });
        return Bytes(memory->data(), {nbytes}, owner);
    }
};

} // namespace

void bind_driver(nb::module_ &module) {
    nb::module_ driver = module.def_submodule("driver", "Resources of the first CUDA device, by the driver's API.");
    nb::register_exception_translator(translate);
    driver.def(
        "raise_failures_as", [](nb::object type) { failure_type = type.release().ptr(); }, "type"_a,
        "Set the class that failed calls raise, made with the call, the name of the status and an explanation.");
    driver.def("spin_while_waiting", &spin_while_waiting, "Let waits poll, if the context is not made yet.");

    nb::class_<OpenContext>(driver, "Context", "The first device's primary context; page-locked memory holds it, too.")
        .def(nb::init<>())
        .def("make_current", [](const OpenContext &self) { self.get().make_current(); }, "Set it for this thread.")
        .def("push", [](const OpenContext &self) { self.get().push(); })
        .def("pop", [](const OpenContext &self) { self.get().pop(); })
        .def("close", &OpenContext::close);
    nb::class_<Stream>(driver, "Stream")
        .def(nb::init<>())
        .def_prop_ro("handle", &Stream::handle)
        .def("synchronize", &Stream::synchronize, ReleaseGil())
        .def("close", &Stream::close, ReleaseGil());
    nb::class_<Event>(driver, "Event")
        .def(nb::init<bool, bool>(), "blocking"_a, "timing"_a)
        .def("record", &Event::record, "stream"_a)
        .def("hold", &Event::hold, "stream"_a)
        .def("synchronize", &Event::synchronize, ReleaseGil())
        .def("done", &Event::done)
        .def("elapsed_ms", &Event::elapsed_ms, "since"_a)
        .def("close", &Event::close, ReleaseGil());
    nb::class_<DeviceMemory>(driver, "DeviceMemory")
        .def(nb::init<size_t>(), "nbytes"_a)
        .def_prop_ro("pointer", &DeviceMemory::address)
        .def("close", &DeviceMemory::close, ReleaseGil());
    nb::class_<PageLocked>(driver, "PageLocked", "Page-locked memory; it lasts as long as its arrays.")
        .def(nb::new_([](const OpenContext &context, size_t nbytes, bool mapped) {
                 context.get();
                 return new PageLocked{std::make_shared<HostMemory>(context.context, nbytes, mapped), nbytes};
             }),
             "context"_a, "nbytes"_a, "mapped"_a)
        .def_prop_ro("pointer", [](const PageLocked &self) { return reinterpret_cast<uintptr_t>(self.memory->data()); })
        .def_prop_ro("device_pointer", [](const PageLocked &self) { return self.memory->device_address(); })
        .def("array", &PageLocked::array);
    driver.def("upload", &upload, "device_pointer"_a, "host_pointer"_a, "nbytes"_a, "stream"_a);
    driver.def("download", &download, "host_pointer"_a, "device_pointer"_a, "nbytes"_a, "stream"_a);
    driver.def("memory_info", [] {
        const MemoryInfo info = memory_info();
        return std::make_pair(info.free, info.total);
    });
    driver.def("begin_capture", &begin_capture, "stream"_a,
               "Record the work that this thread queues on a stream (not the default one) instead of running it.");
    nb::class_<Graph>(driver, "Graph",
                      "The work recorded since begin_capture, on the same thread. Memory that it reads and writes\n"
                      "must stay where it was. For work that cannot be recorded the stream can be used again.")
        .def(nb::init<uintptr_t>(), "stream"_a)
        .def("upload", &Graph::upload, "stream"_a)
        .def("launch", &Graph::launch, "stream"_a)
        .def("close", &Graph::close, ReleaseGil());
}
