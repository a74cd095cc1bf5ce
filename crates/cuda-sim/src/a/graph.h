// CUDA graphs: what is being captured now, and what the rest of the simulation must ask about it.
//
// A capture executes its operations on the host, as later ones need the shapes of what earlier ones return, and records
// them. At its end all memory of the device gets back the bytes that it had before, since a real device runs nothing
// during a capture, and what was allocated meanwhile is NaN.

#pragma once

#include <string>
#include <vector>

#include <c10/core/Stream.h>

#include "tensors.h"

namespace sim {

struct Pool;

// A recorded operation.
struct Node {
  Compute compute;
  // Where the results of `compute` go; undefined for those that are views of arguments.
  std::vector<at::Tensor> into;
  // Arguments that `compute` writes in place.
  std::vector<at::Tensor> written;
  bool random = false;
};

// Whether any thread is capturing.
bool is_capturing();
bool is_captured(const c10::Stream& stream);

// Throws the error of a call that waits for the device or moves memory to or from it, and spoils the capture.
void refuse_while_capturing();

// Counts an operation of this thread; returns whether it must be recorded.
bool begin_operation(const std::string& name, c10::DeviceIndex device);
void record(Node node, const std::vector<Argument>& arguments);

// Where this thread's allocations go while its stream is captured, else null.
Pool* capture_pool(c10::DeviceIndex device);

// A stream's wait for an event, which belongs to the capture or not. Returns false where no capture is concerned.
bool wait_in_capture(bool captured_event, const c10::Stream& stream);

}  // namespace sim
