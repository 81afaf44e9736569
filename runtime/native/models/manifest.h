// Content and requirements of an engine file, as JSON beside it: see runtime/models/manifest.py. It is read first,
// because loading an engine runs code that is in it.
#pragma once

#include <string>
#include <vector>

#include "driver/device.h"
#include "models/files.h"
#include "models/spec.h"

namespace facemesh {

struct Manifest {
    Spec spec;
    std::string path;                              // of this document
    std::string engine_sha256;                     // 64 hexadecimal digits
    std::string library;                           // tensorrt or tensorrt-rtx
    std::string version;                           // of the library, "10.3.0"; "10.3.0+": and newer ones
    std::vector<std::string> compute_capabilities; // of the devices it runs on, "8.7" or "8.0+"
    std::string device;                            // that it was built on; "": without one
    int dla_core = -1;                             // -1: runs on the GPU
    std::string command;                           // builds it again
    std::string platform;                          // "linux-x86_64"; "": an older build does not tell
    int multiprocessors = 0;                       // of the device; 0: not told

    // True if newer versions of the library run it, too; such an engine brings host code along.
    bool is_version_compatible() const { return !version.empty() && version.back() == '+'; }

    // One line on what keeps this engine from running here, "" if nothing does. version: of the library, "" if it is
    // not installed, and `remedy` installs it then; device: NULL if there is none.
    std::string why_not(const std::string &version, const cuda::DeviceInfo *device, const std::string &remedy) const;

    // One line on a device that runs this engine and may run it badly, "" without doubt.
    std::string doubt(const cuda::DeviceInfo &device) const;
};

// Throws Error that names the field at fault.
Manifest load_manifest(const std::string &path);

// The bytes of the engine file that the manifest belongs to; throws Error for another file.
Bytes read_engine(const std::string &path, const Manifest &manifest);

} // namespace facemesh
