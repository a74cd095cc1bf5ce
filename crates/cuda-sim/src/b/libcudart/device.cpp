// Devices, versions and errors of the simulated CUDA runtime.

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "state.h"

namespace sim {
namespace {

thread_local int current_device = 0;
thread_local cudaError_t last_error = cudaSuccess;

// 90 is compute capability 9.0.
int capability() {
  static const int value = static_cast<int>(setting("CUDA_SIM_CAPABILITY", 90));
  return value;
}

struct ErrorText {
  int error;
  const char* name;
  const char* text;
};

// CUDA's own texts, since programs show them and some recognize an error by them.
constexpr ErrorText ERRORS[] = {
    {0, "cudaSuccess", "no error"},
    {1, "cudaErrorInvalidValue", "invalid argument"},
    {2, "cudaErrorMemoryAllocation", "out of memory"},
    {9, "cudaErrorInvalidConfiguration", "invalid configuration argument"},
    {35, "cudaErrorInsufficientDriver", "CUDA driver version is insufficient for CUDA runtime version"},
    {100, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
    {101, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {209, "cudaErrorNoKernelImageForDevice", "no kernel image is available for execution on the device"},
    {400, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {401, "cudaErrorIllegalState", "the operation cannot be performed in the present state"},
    {801, "cudaErrorNotSupported", "operation not supported"},
    {900, "cudaErrorStreamCaptureUnsupported", "operation not permitted when stream is capturing"},
    {901, "cudaErrorStreamCaptureInvalidated", "operation failed due to a previous error during capture"},
    {902, "cudaErrorStreamCaptureMerge", "operation would result in a merge of separate capture sequences"},
    {903, "cudaErrorStreamCaptureUnmatched", "capture was not ended in the same stream as it began"},
    {904, "cudaErrorStreamCaptureUnjoined", "capturing stream has unjoined work"},
    {905, "cudaErrorStreamCaptureIsolation", "dependency created on uncaptured work in another stream"},
    {907, "cudaErrorCapturedEvent", "operation not permitted on an event last recorded in a capturing stream"},
    {908, "cudaErrorStreamCaptureWrongThread",
     "attempt to terminate a thread-local capture sequence from another thread"},
    {999, "cudaErrorUnknown", "unknown error"},
};

const ErrorText& text_of(cudaError_t error) {
  static constexpr ErrorText other = {-1, "unrecognized error code", "unrecognized error code"};
  for (const ErrorText& known : ERRORS) {
    if (known.error == static_cast<int>(error)) {
      return known;
    }
  }
  return other;
}

// Devices that CUDA_VISIBLE_DEVICES leaves: it is a list of indices, which ends at the first that is not a device's.
int visible(int devices) {
  const char* list = getenv("CUDA_VISIBLE_DEVICES");
  if (list == nullptr) {
    return devices;
  }
  int count = 0;
  for (char* end; *list != 0; list = end + (*end == ',')) {
    const long index = strtol(list, &end, 10);
    if (end == list || index < 0 || index >= devices) {
      break;
    }
    count++;
  }
  return count;
}

}  // namespace

cudaError_t result(cudaError_t error) {
  if (error != cudaSuccess) {
    last_error = error;
  }
  return error;
}

int device_count() {
  static const int count = visible(static_cast<int>(setting("CUDA_SIM_DEVICES", 1)));
  return count;
}

}  // namespace sim

using namespace sim;

API cudaError_t cudaGetDeviceCount(int* count) {
  // What the driver says instead: 35 that it is too old, 100 that there is no device, 999 that it was updated and not
  // yet loaded again.
  static const int error = static_cast<int>(setting("CUDA_SIM_ERROR", 0));
  *count = 0;
  if (error != 0) {
    return result(static_cast<cudaError_t>(error));
  }
  if (device_count() == 0) {
    return result(cudaErrorNoDevice);
  }
  *count = device_count();
  return cudaSuccess;
}

API cudaError_t cudaSetDevice(int device) {
  if (device < 0 || device >= device_count()) {
    return result(cudaErrorInvalidDevice);
  }
  current_device = device;
  return cudaSuccess;
}

API cudaError_t cudaGetDevice(int* device) {
  *device = current_device;
  return cudaSuccess;
}

// The numbers of an H100, whatever the capability.
API cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  if (device < 0 || device >= device_count()) {
    return result(cudaErrorInvalidDevice);
  }
  cudaDeviceProp& p = *properties;
  memset(&p, 0, sizeof p);
  snprintf(p.name, sizeof p.name, "Simulated GPU sm_%d", capability());
  p.uuid.bytes[0] = static_cast<char>(device + 1);
  p.major = capability() / 10;
  p.minor = capability() % 10;
  p.totalGlobalMem = total_memory();
  p.totalConstMem = 65536;
  p.memPitch = 2147483647;
  p.textureAlignment = 512;
  p.warpSize = 32;
  p.multiProcessorCount = 132;
  p.maxThreadsPerBlock = 1024;
  p.maxThreadsPerMultiProcessor = 2048;
  p.maxBlocksPerMultiProcessor = 32;
  p.maxThreadsDim[0] = p.maxThreadsDim[1] = 1024;
  p.maxThreadsDim[2] = 64;
  p.maxGridSize[0] = 2147483647;
  p.maxGridSize[1] = p.maxGridSize[2] = 65535;
  p.regsPerBlock = p.regsPerMultiprocessor = 65536;
  p.sharedMemPerBlock = 49152;
  p.sharedMemPerBlockOptin = 232448;
  p.sharedMemPerMultiprocessor = 233472;
  p.reservedSharedMemPerBlock = 1024;
  p.l2CacheSize = 50 << 20;
  p.memoryBusWidth = 5120;
  p.pciBusID = device;
  p.asyncEngineCount = 3;
  p.concurrentKernels = p.cooperativeLaunch = p.unifiedAddressing = 1;
  return cudaSuccess;
}

API cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  cudaDeviceProp p;
  if (cudaError_t error = cudaGetDeviceProperties(&p, device)) {
    return error;
  }
  switch (attribute) {
    case cudaDevAttrComputeCapabilityMajor: *value = p.major; break;
    case cudaDevAttrComputeCapabilityMinor: *value = p.minor; break;
    case cudaDevAttrMultiProcessorCount: *value = p.multiProcessorCount; break;
    case cudaDevAttrMaxThreadsPerBlock: *value = p.maxThreadsPerBlock; break;
    case cudaDevAttrMaxThreadsPerMultiProcessor: *value = p.maxThreadsPerMultiProcessor; break;
    case cudaDevAttrMaxSharedMemoryPerBlock: *value = static_cast<int>(p.sharedMemPerBlock); break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = static_cast<int>(p.sharedMemPerBlockOptin); break;
    case cudaDevAttrWarpSize: *value = p.warpSize; break;
    default: *value = 0;
  }
  return cudaSuccess;
}

API cudaError_t cudaDeviceCanAccessPeer(int* can, int, int) {
  *can = 0;
  return cudaSuccess;
}

API cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  *least = 0;
  *greatest = -5;
  return cudaSuccess;
}

API cudaError_t cudaDeviceGetPCIBusId(char* text, int size, int device) {
  snprintf(text, static_cast<size_t>(size), "0000:%02x:00.0", device);
  return cudaSuccess;
}

API cudaError_t cudaDriverGetVersion(int* version) {
  *version = static_cast<int>(setting("CUDA_SIM_DRIVER", 13000));
  return cudaSuccess;
}

API cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = 13000;
  return cudaSuccess;
}

API const char* cudaGetErrorString(cudaError_t error) { return text_of(error).text; }

API const char* cudaGetErrorName(cudaError_t error) { return text_of(error).name; }

API cudaError_t cudaGetLastError() {
  const cudaError_t error = last_error;
  last_error = cudaSuccess;
  return error;
}

API cudaError_t cudaPeekAtLastError() { return last_error; }

// libtorch asks for functions of the driver that it uses for features which nothing here has.
API cudaError_t cudaGetDriverEntryPointByVersion(const char*, void** function, unsigned, unsigned long long,
                                                 cudaDriverEntryPointQueryResult* found) {
  *function = reinterpret_cast<void*>(+[]() -> int { return sim_stub("a function of the driver"); });
  if (found != nullptr) {
    *found = cudaDriverEntryPointSuccess;
  }
  return cudaSuccess;
}
