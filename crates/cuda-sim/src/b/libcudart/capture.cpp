// Stream capture of the simulated CUDA runtime: what belongs to a capture, and which calls it forbids.

#include "capture.h"

#include <cstdlib>
#include <map>
#include <memory>
#include <utility>

namespace sim {
namespace {

struct Captures {
  std::map<unsigned long long, std::unique_ptr<Capture>> by_id;
  std::unordered_map<cudaStream_t, Capture*> by_stream;
  unsigned long long last_id = 0;
};

Captures& captures() {
  static auto* all = new Captures;
  return *all;
}

thread_local cudaStreamCaptureMode thread_mode = cudaStreamCaptureModeGlobal;

// Whether the capture forbids this thread potentially unsafe calls; see cudaThreadExchangeStreamCaptureMode.
bool forbids_unsafe(const Capture& capture) {
  if (thread_mode == cudaStreamCaptureModeRelaxed) {
    return false;
  }
  if (capture.thread == std::this_thread::get_id()) {
    return capture.mode != cudaStreamCaptureModeRelaxed;
  }
  return thread_mode == cudaStreamCaptureModeGlobal && capture.mode == cudaStreamCaptureModeGlobal;
}

cudaError_t begin(cudaStream_t stream, cudaStreamCaptureMode mode) {
  static const char* graphs = getenv("CUDA_SIM_GRAPH");
  if (graphs != nullptr && std::string(graphs) == "refuse") {
    return result(cudaErrorNotSupported);
  }
  if (stream == nullptr) {
    // The default stream cannot be captured.
    return result(cudaErrorStreamCaptureUnsupported);
  }
  if (capture_of(stream) != nullptr) {
    return result(cudaErrorIllegalState);
  }
  Captures& all = captures();
  auto capture = std::make_unique<Capture>();
  capture->id = ++all.last_id;
  capture->mode = mode;
  capture->thread = std::this_thread::get_id();
  capture->origin = stream;
  all.by_stream[stream] = capture.get();
  all.by_id[capture->id] = std::move(capture);
  return cudaSuccess;
}

cudaError_t end(cudaStream_t stream, cudaGraph_t* graph) {
  *graph = nullptr;
  Capture* capture = capture_of(stream);
  if (capture == nullptr) {
    return result(cudaErrorIllegalState);
  }
  if (capture->mode != cudaStreamCaptureModeRelaxed && capture->thread != std::this_thread::get_id()) {
    return invalidate(*capture, cudaErrorStreamCaptureWrongThread);
  }
  if (capture->origin != stream) {
    return invalidate(*capture, cudaErrorStreamCaptureUnmatched);
  }
  cudaError_t error = capture->valid ? cudaSuccess : cudaErrorStreamCaptureInvalidated;
  for (const auto& [other, loose] : capture->unjoined) {
    if (error == cudaSuccess && loose && other != stream) {
      error = cudaErrorStreamCaptureUnjoined;
    }
  }
  if (error == cudaSuccess) {
    *graph = reinterpret_cast<cudaGraph_t>(new Graph(std::move(capture->graph)));
  }
  Captures& all = captures();
  for (auto at = all.by_stream.begin(); at != all.by_stream.end();) {
    at = at->second == capture ? all.by_stream.erase(at) : std::next(at);
  }
  all.by_id.erase(capture->id);
  return result(error);
}

}  // namespace

Capture* capture_of(cudaStream_t stream) {
  const auto& streams = captures().by_stream;
  if (streams.empty()) {
    return nullptr;
  }
  const auto found = streams.find(stream);
  return found == streams.end() ? nullptr : found->second;
}

Capture* capture_with(unsigned long long id) {
  const auto found = captures().by_id.find(id);
  return found == captures().by_id.end() ? nullptr : found->second.get();
}

void join(Capture& capture, cudaStream_t stream) {
  captures().by_stream[stream] = &capture;
  capture.unjoined[stream] = true;
}

cudaError_t add_node(Capture& capture, cudaStream_t stream, const char* name) {
  if (!capture.valid) {
    return result(cudaErrorStreamCaptureInvalidated);
  }
  capture.graph.nodes.push_back(name);
  capture.unjoined[stream] = true;
  segment().captured++;
  segment().captured_names[name]++;
  return cudaSuccess;
}

cudaError_t invalidate(Capture& capture, cudaError_t error) {
  capture.valid = false;
  return result(error);
}

cudaError_t check_unsafe() {
  cudaError_t error = cudaSuccess;
  for (const auto& [id, capture] : captures().by_id) {
    if (forbids_unsafe(*capture)) {
      error = invalidate(*capture, cudaErrorStreamCaptureUnsupported);
    }
  }
  return error;
}

cudaError_t check_device_wait() {
  cudaError_t error = cudaSuccess;
  for (const auto& [id, capture] : captures().by_id) {
    error = invalidate(*capture, cudaErrorStreamCaptureUnsupported);
  }
  return error;
}

cudaError_t work(cudaStream_t stream, const char* name) {
  if (Capture* capture = capture_of(stream)) {
    return add_node(*capture, stream, name);
  }
  segment().launch(name);
  return cudaSuccess;
}

}  // namespace sim

using namespace sim;

API int sim_work(void* stream, const char* name) {
  std::lock_guard<std::mutex> lock(guard());
  return work(static_cast<cudaStream_t>(stream), name);
}

API int sim_unsafe() {
  std::lock_guard<std::mutex> lock(guard());
  return check_unsafe();
}

API cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  std::lock_guard<std::mutex> lock(guard());
  return begin(stream, mode);
}

API cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  std::lock_guard<std::mutex> lock(guard());
  return end(stream, graph);
}

API cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* mode) {
  std::swap(thread_mode, *mode);
  return cudaSuccess;
}

API cudaError_t cudaStreamGetCaptureInfo(cudaStream_t stream, cudaStreamCaptureStatus* status, unsigned long long* id,
                                         cudaGraph_t* graph, const cudaGraphNode_t** dependencies,
                                         const cudaGraphEdgeData** edges, size_t* count) {
  std::lock_guard<std::mutex> lock(guard());
  Capture* capture = capture_of(stream);
  *status = capture == nullptr ? cudaStreamCaptureStatusNone
            : capture->valid   ? cudaStreamCaptureStatusActive
                               : cudaStreamCaptureStatusInvalidated;
  if (id != nullptr) {
    *id = capture == nullptr ? 0 : capture->id;
  }
  if (graph != nullptr) {
    *graph = capture == nullptr ? nullptr : reinterpret_cast<cudaGraph_t>(&capture->graph);
  }
  if (dependencies != nullptr) {
    *dependencies = nullptr;
  }
  if (edges != nullptr) {
    *edges = nullptr;
  }
  if (count != nullptr) {
    *count = 0;
  }
  return cudaSuccess;
}

API cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  return cudaStreamGetCaptureInfo(stream, status, nullptr, nullptr, nullptr, nullptr, nullptr);
}
