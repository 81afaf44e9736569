// Resources of the first CUDA device, by the driver's API. Every failure throws Failure. What has close() must be
// closed while the context is retained; a second close() does nothing.
#pragma once

#include <memory>

#include "driver_api.h"

namespace facemesh::cuda {

// The first CUDA device: engines are built for it and run on it. See runtime/cuda/driver.py.
struct DeviceInfo {
    std::string name;               // "Orin", "NVIDIA GeForce RTX 4090"
    std::string compute_capability; // "8.7"
    bool integrated;                // shares its memory with the host, as a Jetson's does
    int multiprocessors;
};
DeviceInfo first_device_info();

// Lets waits of the primary context poll. Left to itself the driver of a Tegra may choose to sleep. Only before the
// context is made: another library that made it has chosen.
void spin_while_waiting();

// The primary context of the first device, which all libraries of a process share.
class Context {
  public:
    Context(); // retains it
    ~Context(); // gives it back
    Context(const Context &) = delete;
    Context &operator=(const Context &) = delete;
    void make_current() const; // on the calling thread
    void push() const;
    void pop() const;
    bool try_push() const noexcept;

  private:
    Handle handle_ = nullptr;
    int device_ = 0;
};

class Stream {
  public:
    Stream(); // does not wait for the default stream
    uintptr_t handle() const { return reinterpret_cast<uintptr_t>(handle_); }
    void synchronize() const;
    void close();

  private:
    Handle handle_ = nullptr;
};

class Event {
  public:
    Event(bool blocking, bool timing);
    void record(uintptr_t stream) const;
    void hold(uintptr_t stream) const; // until the work before the record is done
    void synchronize() const;
    bool done() const;
    float elapsed_ms(const Event &since) const;
    void close();

  private:
    Handle handle_ = nullptr;
};

class DeviceMemory {
  public:
    explicit DeviceMemory(size_t nbytes);
    Address address() const { return address_; }
    void close();

  private:
    Address address_ = 0;
};

// Page-locked memory of the host. It outlives its device object where arrays still show it: the context is retained
// until the last of them is gone, in whatever thread that happens.
class HostMemory {
  public:
    HostMemory(std::shared_ptr<Context> context, size_t nbytes, bool mapped);
    ~HostMemory();
    HostMemory(const HostMemory &) = delete;
    HostMemory &operator=(const HostMemory &) = delete;
    Handle data() const { return data_; }
    Address device_address() const { return device_address_; } // 0 unless mapped

  private:
    std::shared_ptr<Context> context_;
    Handle data_ = nullptr;
    Address device_address_ = 0;
};

void upload(Address to, uintptr_t source, size_t nbytes, uintptr_t stream);
void download(uintptr_t to, Address source, size_t nbytes, uintptr_t stream);

struct MemoryInfo {
    size_t free, total;
};
MemoryInfo memory_info();

void begin_capture(uintptr_t stream);

// The work queued on a stream between begin_capture and the construction.
class Graph {
  public:
    explicit Graph(uintptr_t stream); // ends the capture, even if it throws
    void upload(uintptr_t stream) const; // to the device, so that the first launch need not
    void launch(uintptr_t stream) const;
    void close() noexcept;

  private:
    Handle executable_ = nullptr;
};

} // namespace facemesh::cuda
