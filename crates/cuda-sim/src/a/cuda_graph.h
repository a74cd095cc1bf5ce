// State of a graph, shared between the capture in progress and libtorch's class.

#pragma once

#include <set>
#include <vector>

#include "graph.h"
#include "memory.h"

namespace sim {

struct Capture {
  c10::DeviceIndex device = 0;
  // The stream on which the capture began, and those that were forked from it.
  c10::StreamId stream = 0;
  std::set<c10::StreamId> streams;
  std::vector<Node> nodes;
  Pool pool;
  Snapshot before;
  // Something illegal was tried, so the capture must fail at its end.
  bool spoiled = false;
  // The capture ended well: the graph can be replayed.
  bool ready = false;
};

// Makes `capture` the one in progress; throws if there is another.
void start(Capture& capture, c10::DeviceIndex device);
// Ends it and undoes its effects on memory. Returns false if it was not in progress.
bool stop(Capture& capture);

}  // namespace sim
