// A thin layer over ONNX Runtime's C API: sessions, tensors over memory of ours, errors as exceptions.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <onnxruntime_c_api.h>

namespace facemesh {

struct OrtRelease {
    void operator()(OrtSession *session) const;
    void operator()(OrtValue *value) const;
};
using OrtTensor = std::unique_ptr<OrtValue, OrtRelease>;

struct TensorForm {
    std::string name;
    ONNXTensorElementDataType type;
    std::vector<int64_t> shape; // below 1: free
};

class OnnxSession {
  public:
    // Throws Error that names the file.
    OnnxSession(const std::string &path, int threads);

    std::vector<TensorForm> inputs() const { return forms(true); }
    std::vector<TensorForm> outputs() const { return forms(false); }

    // Throws Error with ONNX Runtime's first line.
    void run(const char *input_name, const OrtValue *input, const std::vector<const char *> &output_names,
             const std::vector<OrtValue *> &outputs) const;

    const std::string &path() const { return path_; }

  private:
    std::vector<TensorForm> forms(bool of_inputs) const;

    std::string path_;
    std::unique_ptr<OrtSession, OrtRelease> session_;
};

// A tensor over `data`, which must stay where it is.
OrtTensor tensor_over(float *data, const std::vector<int64_t> &shape);
OrtTensor tensor_over(uint8_t *data, const std::vector<int64_t> &shape);

int usable_cores();

} // namespace facemesh
