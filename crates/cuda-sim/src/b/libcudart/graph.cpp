// Graphs of the simulated CUDA runtime: made by a capture, launched as one.

#include <cstdio>
#include <set>

#include "capture.h"

namespace sim {
namespace {

struct Executable {
  size_t nodes;
};

// Those that were given out and not destroyed, so that the use of another is noticed.
std::set<Executable*>& alive() {
  static auto* all = new std::set<Executable*>;
  return *all;
}

Graph* graph_of(cudaGraph_t handle) { return reinterpret_cast<Graph*>(handle); }

}  // namespace
}  // namespace sim

using namespace sim;

API cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph_of(graph);
  return cudaSuccess;
}

// Without room for nodes, says how many there are.
API cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* nodes, size_t* count) {
  std::lock_guard<std::mutex> lock(guard());
  std::vector<const char*>& all = graph_of(graph)->nodes;
  for (size_t i = 0; nodes != nullptr && i < *count; i++) {
    nodes[i] = i < all.size() ? reinterpret_cast<cudaGraphNode_t>(&all[i]) : nullptr;
  }
  if (nodes == nullptr || *count > all.size()) {
    *count = all.size();
  }
  return cudaSuccess;
}

API cudaError_t cudaGraphNodeGetDependencies(cudaGraphNode_t, cudaGraphNode_t*, cudaGraphEdgeData*, size_t* count) {
  *count = 0;
  return cudaSuccess;
}

API cudaError_t cudaGraphDebugDotPrint(cudaGraph_t graph, const char* path, unsigned) {
  std::lock_guard<std::mutex> lock(guard());
  FILE* file = fopen(path, "w");
  if (file == nullptr) {
    return result(cudaErrorUnknown);
  }
  fprintf(file, "digraph {\n");
  for (size_t i = 0; i < graph_of(graph)->nodes.size(); i++) {
    fprintf(file, "  n%zu [label=\"%s\"]\n", i, graph_of(graph)->nodes[i]);
  }
  fprintf(file, "}\n");
  fclose(file);
  return cudaSuccess;
}

API cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long) {
  std::lock_guard<std::mutex> lock(guard());
  auto* made = new Executable{graph_of(graph)->nodes.size()};
  alive().insert(made);
  *executable = reinterpret_cast<cudaGraphExec_t>(made);
  return cudaSuccess;
}

API cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long flags) {
  return cudaGraphInstantiateWithFlags(executable, graph, flags);
}

API cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  std::lock_guard<std::mutex> lock(guard());
  auto* known = reinterpret_cast<Executable*>(executable);
  if (alive().erase(known) == 0) {
    return result(cudaErrorInvalidValue);
  }
  delete known;
  return cudaSuccess;
}

API cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  std::lock_guard<std::mutex> lock(guard());
  auto* known = reinterpret_cast<Executable*>(executable);
  if (alive().count(known) == 0) {
    return result(cudaErrorInvalidValue);
  }
  // In a capture it becomes one node of the other graph.
  if (capture_of(stream) == nullptr) {
    segment().replayed += static_cast<int64_t>(known->nodes);
  }
  return work(stream, "(graph launch)");
}
