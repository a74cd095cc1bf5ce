#include "graph.h"

#include <memory>
#include <mutex>
#include <set>

#include "counts.h"
#include "cuda_graph.h"
#include "device.h"
#include "memory.h"

namespace sim {

namespace {

// Protects `active` and what it points to.
std::mutex& mutex() {
  static std::mutex* one = new std::mutex;
  return *one;
}

Capture* active = nullptr;

constexpr const char* NOT_PERMITTED = "CUDA error: operation not permitted when stream is capturing";

bool holds(const c10::Stream& stream) {
  return active != nullptr && active->device == stream.device_index() && active->streams.count(stream.id()) > 0;
}

c10::Stream stream_here(c10::DeviceIndex device) {
  return c10::Stream(c10::Stream::UNSAFE, c10::Device(c10::DeviceType::CUDA, device), current_stream(device));
}

}  // namespace

bool is_capturing() {
  std::lock_guard<std::mutex> lock(mutex());
  return active != nullptr;
}

bool is_captured(const c10::Stream& stream) {
  std::lock_guard<std::mutex> lock(mutex());
  return holds(stream);
}

void refuse_while_capturing() {
  std::lock_guard<std::mutex> lock(mutex());
  if (active != nullptr) {
    active->spoiled = true;
    TORCH_CHECK(false, NOT_PERMITTED);
  }
}

bool begin_operation(const std::string& name, c10::DeviceIndex device) {
  bool captured = false;
  {
    std::lock_guard<std::mutex> lock(mutex());
    captured = holds(stream_here(device));
    if (!captured && active != nullptr && active->device == device) {
      complain(name + " runs on another stream while a graph is being captured");
    }
  }
  if (captured) {
    count_captured();
  } else {
    count_launch(name);
  }
  return captured;
}

void record(Node node, const std::vector<Argument>& arguments) {
  std::lock_guard<std::mutex> lock(mutex());
  TORCH_CHECK(active != nullptr, "the capture ended during an operation");
  for (const Argument& argument : arguments) {
    pin(active->pool, argument.alias.storage().data());
  }
  active->nodes.push_back(std::move(node));
}

Pool* capture_pool(c10::DeviceIndex device) {
  std::lock_guard<std::mutex> lock(mutex());
  return holds(stream_here(device)) ? &active->pool : nullptr;
}

bool wait_in_capture(bool captured_event, const c10::Stream& stream) {
  std::lock_guard<std::mutex> lock(mutex());
  const bool captured_stream = holds(stream);
  if (active == nullptr || (!captured_event && !captured_stream)) {
    return false;
  }
  if (captured_event && stream.id() == 0) {
    active->spoiled = true;
    TORCH_CHECK(false, "CUDA error: operation would make the legacy stream depend on a capturing blocking stream");
  }
  if (!captured_event) {
    active->spoiled = true;
    TORCH_CHECK(false, "CUDA error: dependency created on uncaptured work in another stream");
  }
  // The stream is forked from the capture's and belongs to it from here on.
  active->streams.insert(stream.id());
  return true;
}

void start(Capture& capture, c10::DeviceIndex device) {
  std::lock_guard<std::mutex> lock(mutex());
  if (active != nullptr) {
    active->spoiled = true;
    TORCH_CHECK(false, NOT_PERMITTED);
  }
  capture.device = device;
  capture.stream = current_stream(device);
  capture.streams = {capture.stream};
  capture.before = take_snapshot(device);
  active = &capture;
}

bool stop(Capture& capture) {
  std::lock_guard<std::mutex> lock(mutex());
  if (active != &capture) {
    return false;
  }
  active = nullptr;
  restore(capture.before);
  invalidate(capture.pool);
  capture.before = Snapshot();
  return true;
}

}  // namespace sim
