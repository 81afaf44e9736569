#include "cuda_status.h"
#include "kernels.h"

namespace facemesh::cuda {
namespace {

cudaStream_t as_stream(uintptr_t handle) { return reinterpret_cast<cudaStream_t>(handle); }

} // namespace

// Thread-local: calls that a capture forbids (an allocation, say) fail when this thread makes them, because they would
// not be in the graph; other threads (another pipeline, another library) may go on making them.
void begin_capture(uintptr_t stream) {
    check(cudaStreamBeginCapture(as_stream(stream), cudaStreamCaptureModeThreadLocal), "begin_capture");
}

Graph::Graph(uintptr_t stream) {
    cudaGraph_t graph = nullptr;
    // A failed capture ends, too: the stream is usable again.
    check(cudaStreamEndCapture(as_stream(stream), &graph), "end_capture");
    cudaGraphExec_t executable = nullptr;
    // Not cudaGraphInstantiate, whose parameters changed with CUDA 12; this one is the same from 11.4 to 13.
    const cudaError_t status = cudaGraphInstantiateWithFlags(&executable, graph, 0);
    cudaGraphDestroy(graph);
    check(status, "end_capture");
    executable_ = executable;
}

void Graph::launch(uintptr_t stream) const {
    if (executable_ == nullptr) throw std::runtime_error("launch: the graph is closed");
    check(cudaGraphLaunch(static_cast<cudaGraphExec_t>(executable_), as_stream(stream)), "launch");
}

void Graph::close() noexcept {
    if (executable_ == nullptr) return;
    // Its status tells nothing that a caller could act on: an earlier call's, or that the process is ending.
    if (cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(executable_)) != cudaSuccess) cudaGetLastError();
    executable_ = nullptr;
}

} // namespace facemesh::cuda
