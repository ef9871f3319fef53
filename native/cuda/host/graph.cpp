// Recordings as CUDA graphs: captured and instantiated at the first launch, then replayed with one call.
#include "../../runtime/device.h"
#include "../../runtime/error.h"
#include "../launch.h"
#include "cuda_stream.h"

namespace alma::ALMA_CUDA {

namespace {

struct PreparedGraph {
  int device = 0;
  cudaGraphExec_t executable = nullptr;
  std::shared_ptr<void> arena;  // the kernels inside remember its address

  PreparedGraph() = default;
  PreparedGraph(const PreparedGraph&) = delete;
  PreparedGraph& operator=(const PreparedGraph&) = delete;
  ~PreparedGraph() {
    if (executable == nullptr) return;
    cudaSetDevice(device);
    cudaGraphExecDestroy(executable);
    cudaGetLastError();
  }
};

struct GraphDeleter {
  void operator()(cudaGraph_t graph) const { cudaGraphDestroy(graph); }
};
using GraphPointer = std::unique_ptr<std::remove_pointer_t<cudaGraph_t>, GraphDeleter>;

// Ends the capture whatever happens inside: a stream that is left capturing refuses everything.
GraphPointer capture(cudaStream_t stream, Arena& arena, Ops& ops, const Recording& recording) {
  // Thread-local: the JavaScript thread may allocate meanwhile.
  check("graph", cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  arena.begin_capture();
  cudaGraph_t graph = nullptr;
  try {
    for (const Command& command : recording.commands) command.execute(ops, command.arguments);
  } catch (...) {
    arena.end_capture();
    if (cudaStreamEndCapture(stream, &graph) == cudaSuccess && graph != nullptr) cudaGraphDestroy(graph);
    cudaGetLastError();
    throw;
  }
  arena.end_capture();
  check("graph", cudaStreamEndCapture(stream, &graph));
  return GraphPointer(graph);
}

}  // namespace

void CudaStream::replay(Recording& recording) {
  if (recording.commands.empty()) return;
  if (recording.prepared == nullptr) {
    auto prepared = std::make_shared<PreparedGraph>();
    prepared->device = device_;
    GraphPointer graph;
    while (graph == nullptr) {
      try {
        graph = capture(stream_, *arena_, ops_, recording);
      } catch (const Arena::TooSmall& wanted) {
        arena_->grow(wanted.bytes);
      }
    }
    check("graph", cudaGraphInstantiate(&prepared->executable, graph.get(), 0));
    prepared->arena = arena_->block();
    recording.prepared = std::move(prepared);
  }
  check("graph", cudaGraphLaunch(static_cast<PreparedGraph*>(recording.prepared.get())->executable, stream_));
}

}  // namespace alma::ALMA_CUDA
