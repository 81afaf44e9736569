// An open network. A backend is one file that defines an `open_…` below; CMake says which ones there are.
#pragma once

#include <memory>
#include <string>

#include "models/manifest.h"
#include "models/spec.h"

namespace facemesh {

class Network {
  public:
    virtual ~Network() = default;

    virtual int max_batch() const = 0;  // faces in one run
    virtual float *input(int slot) = 0; // of the face 0..max_batch - 1
    virtual void run(int count) = 0;    // throws Error
    virtual const float *output(int slot) const = 0;
    virtual float confidence(int slot) const = 0; // FACEMESH_NO_CONFIDENCE where the model does not tell

    virtual std::string warnings() const { return ""; } // lines on what may make it slow, known once it is open
};

// threads: 0 chooses. Throw Error for a file that cannot be loaded or does not fit its spec.
std::unique_ptr<Network> open_onnx_network(const std::string &path, const Spec &spec, int threads, int max_batch);

// Of an engine and its manifest. Throw Error for an engine that cannot run here, and where the library or a device is
// missing.
std::unique_ptr<Network> open_tensorrt_network(const std::string &path, const Manifest &manifest, int max_batch);
std::unique_ptr<Network> open_tensorrt_rtx_network(const std::string &path, const Manifest &manifest, int max_batch);

} // namespace facemesh
