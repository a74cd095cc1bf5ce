// Streams and events of the simulated CUDA runtime. All work is done the moment it is asked for, so nothing ever waits.

#include "capture.h"

namespace sim {
namespace {

struct Event {
  bool recorded = false;
  // The capture in which it was recorded; 0 for none.
  unsigned long long capture = 0;
  cudaStream_t stream = nullptr;
};

Event* event_of(cudaEvent_t handle) { return reinterpret_cast<Event*>(handle); }

cudaError_t create(cudaEvent_t* event) {
  *event = reinterpret_cast<cudaEvent_t>(new Event);
  return cudaSuccess;
}

cudaError_t record(Event& event, cudaStream_t stream) {
  Capture* capture = capture_of(stream);
  if (capture != nullptr && !capture->valid) {
    return result(cudaErrorStreamCaptureInvalidated);
  }
  event.recorded = true;
  event.capture = capture == nullptr ? 0 : capture->id;
  event.stream = stream;
  return cudaSuccess;
}

// Makes the stream wait for the event, by which it joins the event's capture.
cudaError_t wait(cudaStream_t stream, const Event& event, bool external) {
  Capture* own = capture_of(stream);
  Capture* other = capture_with(event.capture);
  if (own != nullptr && !own->valid) {
    return result(cudaErrorStreamCaptureInvalidated);
  }
  if (!event.recorded || external) {
    return cudaSuccess;
  }
  if (other == nullptr) {
    return own == nullptr ? cudaSuccess : invalidate(*own, cudaErrorStreamCaptureIsolation);
  }
  if (own != nullptr && own != other) {
    invalidate(*other, cudaErrorStreamCaptureMerge);
    return invalidate(*own, cudaErrorStreamCaptureMerge);
  }
  if (own == nullptr) {
    join(*other, stream);
  }
  if (stream != event.stream) {
    other->unjoined[event.stream] = false;
  }
  return cudaSuccess;
}

// Asks for the state of an event, which one that was captured does not have.
cudaError_t ask(const Event& event) {
  if (Capture* capture = capture_with(event.capture)) {
    return invalidate(*capture, cudaErrorCapturedEvent);
  }
  return check_unsafe();
}

}  // namespace
}  // namespace sim

using namespace sim;

API cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned, int) {
  *stream = reinterpret_cast<cudaStream_t>(new char);
  return cudaSuccess;
}

API cudaError_t cudaStreamCreate(cudaStream_t* stream) { return cudaStreamCreateWithPriority(stream, 0, 0); }

// Streams stay allocated, so that no later one has the address of one that belongs to a capture.
API cudaError_t cudaStreamDestroy(cudaStream_t) { return cudaSuccess; }

API cudaError_t cudaStreamGetPriority(cudaStream_t, int* priority) {
  *priority = 0;
  return cudaSuccess;
}

API cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  std::lock_guard<std::mutex> lock(guard());
  if (Capture* capture = capture_of(stream)) {
    return invalidate(*capture, cudaErrorStreamCaptureUnsupported);
  }
  if (cudaError_t error = check_unsafe()) {
    return error;
  }
  segment().sync("cudaStreamSynchronize");
  return cudaSuccess;
}

API cudaError_t cudaStreamQuery(cudaStream_t stream) {
  std::lock_guard<std::mutex> lock(guard());
  if (Capture* capture = capture_of(stream)) {
    return invalidate(*capture, cudaErrorStreamCaptureUnsupported);
  }
  return cudaSuccess;
}

API cudaError_t cudaDeviceSynchronize() {
  std::lock_guard<std::mutex> lock(guard());
  if (cudaError_t error = check_device_wait()) {
    return error;
  }
  segment().sync("cudaDeviceSynchronize");
  return cudaSuccess;
}

API cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags) {
  std::lock_guard<std::mutex> lock(guard());
  return wait(stream, *event_of(event), (flags & cudaEventWaitExternal) != 0);
}

// A function that the host runs in the stream's order.
API cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void* data) {
  {
    std::lock_guard<std::mutex> lock(guard());
    if (Capture* capture = capture_of(stream)) {
      return add_node(*capture, stream, "cudaLaunchHostFunc");
    }
  }
  function(data);
  return cudaSuccess;
}

API cudaError_t cudaStreamAddCallback(cudaStream_t stream, cudaStreamCallback_t function, void* data, unsigned) {
  {
    std::lock_guard<std::mutex> lock(guard());
    if (Capture* capture = capture_of(stream)) {
      return invalidate(*capture, cudaErrorStreamCaptureUnsupported);
    }
  }
  function(stream, cudaSuccess, data);
  return cudaSuccess;
}

API cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) { return create(event); }

API cudaError_t cudaEventCreate(cudaEvent_t* event) { return create(event); }

API cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event_of(event);
  return cudaSuccess;
}

API cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned) {
  std::lock_guard<std::mutex> lock(guard());
  return record(*event_of(event), stream);
}

API cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  return cudaEventRecordWithFlags(event, stream, 0);
}

API cudaError_t cudaEventQuery(cudaEvent_t event) {
  std::lock_guard<std::mutex> lock(guard());
  return ask(*event_of(event));
}

API cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  std::lock_guard<std::mutex> lock(guard());
  if (cudaError_t error = ask(*event_of(event))) {
    return error;
  }
  segment().sync("cudaEventSynchronize");
  return cudaSuccess;
}

API cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t, cudaEvent_t) {
  *milliseconds = 0.01f;
  return cudaSuccess;
}
