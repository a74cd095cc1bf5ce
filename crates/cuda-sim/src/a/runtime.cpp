// Functions of the CUDA runtime that the program looks up in this library.

#include <cstddef>
#include <cstring>

#include "counts.h"
#include "device.h"
#include "graph.h"
#include "memory.h"

namespace {

// Values of cudaError_t.
constexpr int SUCCESS = 0;
constexpr int NO_DEVICE = 100;
constexpr int INVALID_DEVICE = 101;
constexpr int CAPTURE_UNSUPPORTED = 900;

// Values of cudaDeviceAttr.
constexpr int MULTIPROCESSOR_COUNT = 16;
constexpr int CAPABILITY_MAJOR = 75;
constexpr int CAPABILITY_MINOR = 76;

constexpr int CUDA_VERSION = 13000;
// What is told where CUDA_SIM_MEMORY sets no limit.
constexpr size_t DEFAULT_MEMORY = size_t(64) << 30;

bool exists(int device) { return device >= 0 && device < sim::device_count(); }

}  // namespace

extern "C" {

int cudaGetDeviceCount(int* count) {
  *count = sim::device_count();
  return *count > 0 ? SUCCESS : NO_DEVICE;
}

int cudaDriverGetVersion(int* version) {
  *version = CUDA_VERSION;
  return SUCCESS;
}

int cudaRuntimeGetVersion(int* version) {
  *version = CUDA_VERSION;
  return SUCCESS;
}

int cudaDeviceGetAttribute(int* value, int attribute, int device) {
  if (!exists(device)) {
    return INVALID_DEVICE;
  }
  switch (attribute) {
    case MULTIPROCESSOR_COUNT:
      *value = 1;
      break;
    case CAPABILITY_MAJOR:
      *value = sim::capability() / 10;
      break;
    case CAPABILITY_MINOR:
      *value = sim::capability() % 10;
      break;
    default:
      *value = 0;
  }
  return SUCCESS;
}

// `properties` begins with the name, 256 characters; the rest is left as it is.
int cudaGetDeviceProperties(void* properties, int device) {
  if (!exists(device)) {
    return INVALID_DEVICE;
  }
  strcpy(static_cast<char*>(properties), "Simulated CUDA device (A)");
  return SUCCESS;
}

int cudaMemGetInfo(size_t* free, size_t* total) {
  if (!exists(sim::current_device)) {
    return INVALID_DEVICE;
  }
  const int64_t limit = sim::memory_limit();
  *total = limit > 0 ? static_cast<size_t>(limit) : DEFAULT_MEMORY;
  const auto used = static_cast<size_t>(sim::used_bytes()[sim::current_device]);
  *free = used < *total ? *total - used : 0;
  return SUCCESS;
}

int cudaSetDevice(int device) {
  if (!exists(device)) {
    return INVALID_DEVICE;
  }
  sim::current_device = static_cast<c10::DeviceIndex>(device);
  return SUCCESS;
}

int cudaGetDevice(int* device) {
  *device = sim::current_device;
  return SUCCESS;
}

int cudaDeviceSynchronize() {
  try {
    sim::refuse_while_capturing();
  } catch (const c10::Error&) {
    return CAPTURE_UNSUPPORTED;
  }
  sim::count_sync("device synchronize");
  return SUCCESS;
}

const char* cudaGetErrorString(int error) {
  switch (error) {
    case SUCCESS:
      return "no error";
    case NO_DEVICE:
      return "no CUDA-capable device is detected";
    case INVALID_DEVICE:
      return "invalid device ordinal";
    case CAPTURE_UNSUPPORTED:
      return "operation not permitted when stream is capturing";
    default:
      return "unknown error";
  }
}

}  // extern "C"
