// The backend for .onnx files: ONNX Runtime on the CPU. See runtime/inference/onnx_runner.py.
#include <algorithm>
#include <chrono>

#include "library/error.h"
#include "backends/network.h"
#include "backends/onnx_session.h"

namespace facemesh {
namespace {

constexpr int MOST_THREADS = 4;
constexpr double SHORT_RUN_S = 0.005; // waking another core costs shorter runs what it gains
constexpr int64_t MOST_BATCH = 64;

std::string text_of(const TensorForm &form) {
    std::string text = form.name + " [";
    for (size_t axis = 0; axis < form.shape.size(); ++axis)
        text += (axis ? ", " : "") + (form.shape[axis] < 1 ? std::string("N") : std::to_string(form.shape[axis]));
    return text + (form.type == ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT ? "]" : "] that is no float32");
}

// Sides without a number are free and fit anything; the first one is the batch.
bool fits(const TensorForm &form, const std::string &name, const std::vector<int64_t> &sides) {
    if (form.name != name || form.type != ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT || form.shape.size() != sides.size() + 1)
        return false;
    for (size_t axis = 0; axis < sides.size(); ++axis)
        if (form.shape[axis + 1] >= 1 && form.shape[axis + 1] != sides[axis]) return false;
    return true;
}

void require_fit(const std::string &path, const char *kind, const std::vector<TensorForm> &found,
                 const std::string &name, std::vector<int64_t> sides) {
    for (const TensorForm &form : found)
        if (fits(form, name, sides)) return;
    sides.insert(sides.begin(), -1);
    std::string have;
    for (const TensorForm &form : found) have += (have.empty() ? "" : ", ") + text_of(form);
    const TensorForm wanted{name, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, sides};
    throw bad_file(path, std::string("its spec wants the ") + kind + " " + text_of(wanted) + ", the model has " + have +
                             "; export it again");
}

std::vector<int64_t> with_batch(int64_t batch, std::vector<int64_t> sides) {
    sides.insert(sides.begin(), batch);
    return sides;
}

class OnnxNetwork : public Network {
  public:
    OnnxNetwork(const std::string &path, const Spec &spec, int threads, int max_batch) : spec_(spec) {
        open(path, std::min(std::max(threads, 1), usable_cores()));
        const std::vector<TensorForm> inputs = session_->inputs(), outputs = session_->outputs();
        require_fit(path, "one input", inputs.size() == 1 ? inputs : std::vector<TensorForm>(), spec.input,
                    spec.input_shape());
        require_fit(path, "output", outputs, spec.output, spec.output_shape());
        if (has_confidence()) require_fit(path, "output", outputs, spec.confidence, {1});
        fixed_batch_ = inputs[0].shape[0] >= 1 ? inputs[0].shape[0] : 0;
        if (fixed_batch_ > MOST_BATCH)
            throw bad_file(path, "runs " + std::to_string(fixed_batch_) +
                                     " faces at once, 64 are the most; export the "
                                     "model with a free batch");
        max_batch_ = fixed_batch_ ? int(fixed_batch_) : max_batch;
        input_.resize(spec.input_count() * size_t(max_batch_));
        output_.resize(spec.output_count() * size_t(max_batch_));
        confidence_.resize(size_t(max_batch_), FACEMESH_NO_CONFIDENCE);
        output_names_.push_back(spec_.output.c_str());
        if (has_confidence()) output_names_.push_back(spec_.confidence.c_str());
        bound_.resize(size_t(max_batch_) + 1);
        run(1);
        // Some models have a free batch in name alone: they run their faces one by one.
        if (max_batch_ > 1 && !fixed_batch_ && !runs(2)) max_batch_ = 1;
        if (threads == 0 && run_time() > SHORT_RUN_S) open(path, std::min(MOST_THREADS, usable_cores()));
    }

    int max_batch() const override { return max_batch_; }
    float *input(int slot) override { return input_.data() + size_t(slot) * spec_.input_count(); }
    const float *output(int slot) const override { return output_.data() + size_t(slot) * spec_.output_count(); }
    float confidence(int slot) const override { return confidence_[size_t(slot)]; }

    void run(int count) override {
        const int64_t batch = fixed_batch_ ? fixed_batch_ : count;
        Bound &bound = bound_[size_t(batch)];
        if (!bound.input) bind(batch, bound);
        session_->run(spec_.input.c_str(), bound.input.get(), output_names_, bound.results);
    }

  private:
    struct Bound { // the tensors of one size of batch, over the memory below
        OrtTensor input, output, confidence;
        std::vector<OrtValue *> results;
    };

    bool has_confidence() const { return !spec_.confidence.empty(); }

    void open(const std::string &path, int threads) { session_ = std::make_unique<OnnxSession>(path, threads); }

    void bind(int64_t batch, Bound &bound) {
        bound.output = tensor_over(output_.data(), with_batch(batch, spec_.output_shape()));
        bound.results = {bound.output.get()};
        if (has_confidence()) {
            bound.confidence = tensor_over(confidence_.data(), {batch, 1});
            bound.results.push_back(bound.confidence.get());
        }
        bound.input = tensor_over(input_.data(), with_batch(batch, spec_.input_shape()));
    }

    bool runs(int count) {
        try {
            run(count);
            return true;
        } catch (const Error &) {
            return false;
        }
    }

    double run_time() {
        const auto start = std::chrono::steady_clock::now();
        run(1);
        return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    }

    const Spec spec_;
    std::unique_ptr<OnnxSession> session_;
    int64_t fixed_batch_ = 0; // 0: free
    int max_batch_ = 1;
    std::vector<float> input_, output_, confidence_;
    std::vector<const char *> output_names_;
    std::vector<Bound> bound_; // by batch
};

} // namespace

std::unique_ptr<Network> open_onnx_network(const std::string &path, const Spec &spec, int threads, int max_batch) {
    return std::make_unique<OnnxNetwork>(path, spec, threads, max_batch);
}

} // namespace facemesh
