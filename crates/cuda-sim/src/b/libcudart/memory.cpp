// Memory of the simulated device, and copies.

#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <map>

#include "state.h"

namespace sim {
namespace {

constexpr size_t ADDRESSES = size_t(1) << 42;
// cudaMalloc takes whole pages of the device.
constexpr size_t PAGE = size_t(2) << 20;

// Addresses without memory behind them: an access from the host ends the process, as on a real device.
char* base() {
  static char* start = static_cast<char*>(
      mmap(nullptr, ADDRESSES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
  return start;
}

size_t next_address = 0;
size_t in_use = 0;
size_t peak = 0;

using Blocks = std::map<const char*, size_t>;

Blocks& device_blocks() {
  static auto* all = new Blocks;
  return *all;
}

Blocks& pinned_blocks() {
  static auto* all = new Blocks;
  return *all;
}

const char* name_of(const char* call, bool to_device, bool from_device) {
  // One buffer of text for each pair of call and direction, since names are counted by address.
  static auto* names = new std::map<std::string, std::string>;
  const char* way = to_device ? from_device ? " within the device" : " to the device" : " to the host";
  const std::string key = std::string(call) + way;
  return names->try_emplace(key, key).first->second.c_str();
}

// Copies `rows` rows of `width` bytes. What comes back from the device are zeros; a single byte, which is a truth value
// such as that of a check for finite numbers, is 1.
cudaError_t copy(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width, size_t rows,
                 cudaStream_t stream, const char* call) {
  const bool up = on_device(to) && !on_device(from);
  const bool down = !on_device(to) && on_device(from);
  const size_t bytes = width * rows;
  if (Capture* capture = capture_of(stream)) {
    // The graph would read memory that its owner may move or free.
    if ((up && !is_pinned(from)) || (down && !is_pinned(to))) {
      return invalidate(*capture, cudaErrorStreamCaptureUnsupported);
    }
    return add_node(*capture, stream, name_of(call, on_device(to), on_device(from)));
  }
  if (up) {
    segment().copies_up++;
    segment().bytes_up += bytes;
  } else if (down) {
    segment().copies_down++;
    segment().bytes_down += bytes;
    for (size_t row = 0; row < rows; row++) {
      memset(static_cast<char*>(to) + row * to_pitch, bytes == 1 ? 1 : 0, width);
    }
  } else if (on_device(to)) {
    segment().launch(name_of(call, true, true));
  } else {
    for (size_t row = 0; row < rows; row++) {
      memcpy(static_cast<char*>(to) + row * to_pitch, static_cast<const char*>(from) + row * from_pitch, width);
    }
  }
  return cudaSuccess;
}

}  // namespace

size_t total_memory() {
  static const size_t bytes = setting("CUDA_SIM_MEMORY", int64_t(80) << 30);
  return bytes;
}

size_t peak_bytes() { return peak; }

bool on_device(const void* pointer) {
  const char* p = static_cast<const char*>(pointer);
  return p >= base() && p < base() + ADDRESSES;
}

bool is_pinned(const void* pointer) {
  const char* p = static_cast<const char*>(pointer);
  auto after = pinned_blocks().upper_bound(p);
  if (after == pinned_blocks().begin()) {
    return false;
  }
  const auto& [start, bytes] = *--after;
  return p < start + bytes;
}

}  // namespace sim

using namespace sim;

API cudaError_t cudaMalloc(void** pointer, size_t bytes) {
  std::lock_guard<std::mutex> lock(guard());
  if (cudaError_t error = check_unsafe()) {
    return error;
  }
  segment().allocations++;
  *pointer = nullptr;
  if (bytes > total_memory() || in_use + bytes > total_memory()) {
    return result(cudaErrorMemoryAllocation);
  }
  char* start = base() + next_address;
  next_address += (bytes + PAGE - 1) / PAGE * PAGE;
  device_blocks()[start] = bytes;
  in_use += bytes;
  peak = in_use > peak ? in_use : peak;
  *pointer = start;
  return cudaSuccess;
}

API cudaError_t cudaFree(void* pointer) {
  std::lock_guard<std::mutex> lock(guard());
  if (pointer == nullptr) {
    return cudaSuccess;
  }
  // It waits for the device.
  if (cudaError_t error = check_unsafe()) {
    return error;
  }
  const auto found = device_blocks().find(static_cast<char*>(pointer));
  if (found == device_blocks().end()) {
    return result(cudaErrorInvalidValue);
  }
  in_use -= found->second;
  device_blocks().erase(found);
  return cudaSuccess;
}

API cudaError_t cudaMallocAsync(void** pointer, size_t bytes, cudaStream_t) { return cudaMalloc(pointer, bytes); }

API cudaError_t cudaFreeAsync(void* pointer, cudaStream_t) { return cudaFree(pointer); }

API cudaError_t cudaHostAlloc(void** pointer, size_t bytes, unsigned) {
  std::lock_guard<std::mutex> lock(guard());
  if (cudaError_t error = check_unsafe()) {
    return error;
  }
  *pointer = malloc(bytes);
  pinned_blocks()[static_cast<char*>(*pointer)] = bytes;
  return cudaSuccess;
}

API cudaError_t cudaFreeHost(void* pointer) {
  std::lock_guard<std::mutex> lock(guard());
  if (cudaError_t error = check_unsafe()) {
    return error;
  }
  pinned_blocks().erase(static_cast<char*>(pointer));
  free(pointer);
  return cudaSuccess;
}

API cudaError_t cudaHostRegister(void* pointer, size_t bytes, unsigned) {
  std::lock_guard<std::mutex> lock(guard());
  pinned_blocks()[static_cast<char*>(pointer)] = bytes;
  return cudaSuccess;
}

API cudaError_t cudaHostUnregister(void* pointer) {
  std::lock_guard<std::mutex> lock(guard());
  pinned_blocks().erase(static_cast<char*>(pointer));
  return cudaSuccess;
}

API cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total) {
  std::lock_guard<std::mutex> lock(guard());
  *total = total_memory();
  *free_bytes = total_memory() - in_use;
  return cudaSuccess;
}

API cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* pointer) {
  std::lock_guard<std::mutex> lock(guard());
  *attributes = {};
  if (on_device(pointer)) {
    attributes->type = cudaMemoryTypeDevice;
    attributes->devicePointer = const_cast<void*>(pointer);
  } else if (is_pinned(pointer)) {
    attributes->type = cudaMemoryTypeHost;
    attributes->devicePointer = attributes->hostPointer = const_cast<void*>(pointer);
  } else {
    attributes->type = cudaMemoryTypeUnregistered;
  }
  return cudaSuccess;
}

API cudaError_t cudaGetSymbolAddress(void** pointer, const void*) {
  *pointer = base();
  return cudaSuccess;
}

API cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t stream) {
  std::lock_guard<std::mutex> lock(guard());
  return copy(to, bytes, from, bytes, bytes, 1, stream, "cudaMemcpyAsync");
}

API cudaError_t cudaMemcpy2DAsync(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width,
                                  size_t height, cudaMemcpyKind, cudaStream_t stream) {
  std::lock_guard<std::mutex> lock(guard());
  return copy(to, to_pitch, from, from_pitch, width, height, stream, "cudaMemcpy2DAsync");
}

API cudaError_t cudaMemcpyPeerAsync(void* to, int, const void* from, int, size_t bytes, cudaStream_t stream) {
  std::lock_guard<std::mutex> lock(guard());
  return copy(to, bytes, from, bytes, bytes, 1, stream, "cudaMemcpyPeerAsync");
}

API cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind) {
  std::lock_guard<std::mutex> lock(guard());
  if (cudaError_t error = check_unsafe()) {
    return error;
  }
  segment().sync("cudaMemcpy");
  return copy(to, bytes, from, bytes, bytes, 1, nullptr, "cudaMemcpy");
}

API cudaError_t cudaMemcpyToSymbol(const void*, const void*, size_t bytes, size_t, cudaMemcpyKind) {
  std::lock_guard<std::mutex> lock(guard());
  if (cudaError_t error = check_unsafe()) {
    return error;
  }
  segment().sync("cudaMemcpyToSymbol");
  segment().copies_up++;
  segment().bytes_up += bytes;
  return cudaSuccess;
}

API cudaError_t cudaMemsetAsync(void*, int, size_t, cudaStream_t stream) {
  std::lock_guard<std::mutex> lock(guard());
  return work(stream, "cudaMemsetAsync");
}

API cudaError_t cudaMemset(void*, int, size_t) {
  std::lock_guard<std::mutex> lock(guard());
  return work(nullptr, "cudaMemset");
}
