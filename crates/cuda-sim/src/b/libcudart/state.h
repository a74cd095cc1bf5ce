// State of the simulated device, which the files of the simulated libcudart share.
#pragma once

#include <chrono>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include <cuda_runtime_api.h>

#include "../sim.h"

namespace sim {

// Number from an environment variable.
int64_t setting(const char* name, int64_t otherwise);

// Everything below is read and changed under this lock, apart from what belongs to one thread.
std::mutex& guard();

// What happened between two steps.
struct Segment {
  using Names = std::unordered_map<const char*, int64_t>;

  int64_t launches = 0, syncs = 0, captured = 0, replayed = 0, allocations = 0;
  int64_t copies_up = 0, copies_down = 0, bytes_up = 0, bytes_down = 0;
  Names names, sync_names, captured_names;
  std::chrono::steady_clock::time_point begin = std::chrono::steady_clock::now();
  double seconds = 0;

  void launch(const char* name) {
    launches++;
    names[name]++;
  }
  void sync(const char* why) {
    syncs++;
    sync_names[why]++;
  }
};

// The current segment. Under the lock.
Segment& segment();

// Notes a launch with an impossible configuration. Under the lock.
void note_failure(std::string text);

std::string demangled(const char* name);

// Returns `error`, after setting it as the thread's last error unless it is cudaSuccess.
cudaError_t result(cudaError_t error);

// Bytes of device memory; the most that was allocated at a time.
size_t total_memory();
size_t peak_bytes();
bool on_device(const void* pointer);
// Whether it is page-locked memory of the host. Under the lock.
bool is_pinned(const void* pointer);

int device_count();

// State of the captures. A stream belongs to at most one; nullptr: the stream runs its work. Under the lock.
struct Capture;
Capture* capture_of(cudaStream_t stream);
// Adds a node to the capture. Under the lock.
cudaError_t add_node(Capture& capture, cudaStream_t stream, const char* name);
// Ends a capture with an error, as every call does that cannot be captured. Under the lock.
cudaError_t invalidate(Capture& capture, cudaError_t error);
// Fails if this thread may make no potentially unsafe call, since captures of its own or of others forbid it. Under the
// lock.
cudaError_t check_unsafe();
// As check_unsafe, for a call that waits for all streams of the device. Under the lock.
cudaError_t check_device_wait();
// As sim_work. Under the lock.
cudaError_t work(cudaStream_t stream, const char* name);

}  // namespace sim
