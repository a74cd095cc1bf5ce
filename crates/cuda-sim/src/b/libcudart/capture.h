// A capture: the streams whose work goes into a graph instead of to the device.
#pragma once

#include <thread>
#include <unordered_map>
#include <vector>

#include "state.h"

namespace sim {

struct Graph {
  // Names of the nodes' work, in the order of their capture.
  std::vector<const char*> nodes;
};

struct Capture {
  unsigned long long id;
  cudaStreamCaptureMode mode;
  std::thread::id thread;
  cudaStream_t origin;
  Graph graph;
  bool valid = true;
  // Whether a stream did anything since the last event on it that another one waited for: all but the origin have to be
  // waited for before the capture ends.
  std::unordered_map<cudaStream_t, bool> unjoined;
};

// Makes a stream join a capture. Under the lock.
void join(Capture& capture, cudaStream_t stream);
// The capture with this id, if it goes on. Under the lock.
Capture* capture_with(unsigned long long id);

}  // namespace sim
