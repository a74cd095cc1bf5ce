// The members of libtorch's class at::cuda::CUDAGraph that the program looks up by name.

#include "cuda_graph.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>

#include <ATen/ATen.h>
#include <ATen/core/LegacyTypeDispatch.h>

#include "counts.h"
#include "device.h"

// As in CUDA's headers, so that the names are mangled as libtorch's.
enum cudaStreamCaptureMode : int {
  cudaStreamCaptureModeGlobal = 0,
  cudaStreamCaptureModeThreadLocal = 1,
  cudaStreamCaptureModeRelaxed = 2
};

namespace sim {

namespace {

bool graph_setting_is(const char* value) {
  const char* text = getenv("CUDA_SIM_GRAPH");
  return text != nullptr && strcmp(text, value) == 0;
}

void replay_node(const Node& node) {
  const std::vector<at::Tensor> results = node.compute();
  for (size_t i = 0; i < results.size(); i++) {
    const at::Tensor& into = node.into.at(i);
    if (!into.defined()) {
      continue;
    }
    const auto& from = results[i];
    TORCH_CHECK(from.sizes() == into.sizes() && from.strides() == into.strides() &&
                    from.storage().nbytes() == into.storage().nbytes(),
                "a replayed operation returned another size than when it was captured");
    if (into.storage().nbytes() > 0) {
      memcpy(into.storage().mutable_data(), from.storage().data(), into.storage().nbytes());
    }
  }
}

// What CUDA_SIM_GRAPH=wrong spoils: the first large result of the last operation that has one.
at::Tensor large_result(const std::vector<Node>& nodes) {
  for (auto node = nodes.rbegin(); node != nodes.rend(); ++node) {
    for (const auto* list : {&node->written, &node->into}) {
      for (const at::Tensor& tensor : *list) {
        if (tensor.defined() && tensor.numel() >= 1000 && tensor.is_floating_point()) {
          return tensor;
        }
      }
    }
  }
  return {};
}

void replay(const Capture& capture) {
  count_launch("(graph launch)");
  const auto random = [](const Node& node) { return node.random; };
  if (std::any_of(capture.nodes.begin(), capture.nodes.end(), random)) {
    count_launch("(graph seed)");
    count_launch("(graph offset)");
  }
  if (has_dangling(capture.pool)) {
    complain("a graph was replayed after memory that it uses had been freed");
  }
  const at::AutoDispatchBelowADInplaceOrView below;
  for (const Node& node : capture.nodes) {
    replay_node(node);
  }
  if (graph_setting_is("wrong")) {
    if (const at::Tensor tensor = large_result(capture.nodes); tensor.defined()) {
      tensor.as_strided({1}, {1}, tensor.storage_offset()).add_(1.0);
    }
  }
}

void discard(Capture& capture) {
  if (stop(capture)) {
    complain("a graph was destroyed while it was being captured");
  }
  capture.nodes.clear();
  drop(capture.pool);
  capture.spoiled = false;
  capture.ready = false;
}

}  // namespace

}  // namespace sim

namespace at::cuda {

// Smaller than libtorch's class, whose size the program does not rely on.
class __attribute__((visibility("default"))) CUDAGraph {
 public:
  explicit CUDAGraph(bool keep_graph);
  ~CUDAGraph();
  void capture_begin(std::pair<unsigned long long, unsigned long long> pool, cudaStreamCaptureMode mode);
  void capture_end();
  void replay();
  void reset();

 private:
  sim::Capture* capture;
};

CUDAGraph::CUDAGraph(bool) : capture(new sim::Capture) {}

CUDAGraph::~CUDAGraph() {
  reset();
  delete capture;
}

void CUDAGraph::capture_begin(std::pair<unsigned long long, unsigned long long>, cudaStreamCaptureMode) {
  TORCH_CHECK(!capture->ready,
              "This CUDAGraph instance already owns a captured graph. To capture a new graph, create a new instance.");
  TORCH_CHECK(sim::current_stream(sim::current_device) != 0,
              "CUDA graphs must be captured on a non-default stream. (However, after capture, it's ok to replay them "
              "on the default stream.)");
  TORCH_CHECK(!sim::graph_setting_is("refuse"), "CUDA error: operation not supported");
  sim::start(*capture, sim::current_device);
}

void CUDAGraph::capture_end() {
  TORCH_CHECK(sim::current_device == capture->device && sim::current_stream(capture->device) == capture->stream,
              "Capture must end on the same stream it began on.");
  TORCH_CHECK(sim::stop(*capture), "CUDA error: the stream is not capturing");
  if (capture->spoiled) {
    reset();
    TORCH_CHECK(false, "CUDA error: operation failed due to a previous error during capture");
  }
  capture->ready = true;
}

void CUDAGraph::replay() {
  TORCH_CHECK(capture->ready, "Called CUDAGraph::replay without a preceding successful capture.");
  sim::refuse_while_capturing();
  sim::replay(*capture);
}

void CUDAGraph::reset() { sim::discard(*capture); }

}  // namespace at::cuda
