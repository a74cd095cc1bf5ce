// Kernels of the simulated device: libtorch registers them by name when it is loaded, and their launches are counted.

#include "state.h"

namespace sim {
namespace {

// Registered by the constructors of a library, before anything is launched.
std::unordered_map<const void*, const char*>& kernels() {
  static auto* all = new std::unordered_map<const void*, const char*>;
  return *all;
}

struct Configuration {
  dim3 grid;
  dim3 block;
  size_t shared;
  CUstream_st* stream;
};

// nvcc's code for kernel<<<...>>>() pushes the configuration, and the stub of the kernel pops it.
thread_local std::vector<Configuration> configurations;

bool fits(const dim3& grid, const dim3& block, size_t shared) {
  const auto positive = [](const dim3& d) { return d.x > 0 && d.y > 0 && d.z > 0; };
  return positive(grid) && positive(block) && grid.x <= 2147483647 && grid.y <= 65535 && grid.z <= 65535 &&
         block.z <= 64 && size_t(block.x) * block.y * block.z <= 1024 && shared <= 232448;
}

cudaError_t launch(const void* kernel, const dim3& grid, const dim3& block, size_t shared, cudaStream_t stream) {
  // A device for which libtorch was not compiled.
  static const bool no_image = setting("CUDA_SIM_NO_IMAGE", 0) != 0;
  std::lock_guard<std::mutex> lock(guard());
  const auto found = kernels().find(kernel);
  const char* name = found == kernels().end() ? "an unknown kernel" : found->second;
  if (no_image) {
    return result(cudaErrorNoKernelImageForDevice);
  }
  if (!fits(grid, block, shared)) {
    note_failure("invalid configuration of " + demangled(name));
    return result(cudaErrorInvalidConfiguration);
  }
  return work(stream, name);
}

}  // namespace
}  // namespace sim

using namespace sim;

API void** __cudaRegisterFatBinary(void*) {
  static void* handle = nullptr;
  return &handle;
}

API void __cudaRegisterFatBinaryEnd(void**) {}

API void __cudaUnregisterFatBinary(void**) {}

API char __cudaInitModule(void**) { return 0; }

API void __cudaRegisterFunction(void**, const char* host, char*, const char* name, int, void*, void*, void*, void*,
                                int*) {
  std::lock_guard<std::mutex> lock(guard());
  kernels()[host] = name;
}

API void __cudaRegisterVar(void**, char*, char*, const char*, int, size_t, int, int) {}

API unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared, CUstream_st* stream) {
  configurations.push_back({grid, block, shared, stream});
  return 0;
}

API cudaError_t __cudaPopCallConfiguration(dim3* grid, dim3* block, size_t* shared, void* stream) {
  const Configuration last = configurations.back();
  configurations.pop_back();
  *grid = last.grid;
  *block = last.block;
  *shared = last.shared;
  *static_cast<CUstream_st**>(stream) = last.stream;
  return cudaSuccess;
}

// The handle of a kernel is the address by which it was registered.
API cudaError_t __cudaGetKernel(cudaKernel_t* kernel, const void* host) {
  *kernel = static_cast<cudaKernel_t>(const_cast<void*>(host));
  return cudaSuccess;
}

API cudaError_t cudaGetKernel(cudaKernel_t* kernel, const void* host) { return __cudaGetKernel(kernel, host); }

API cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void**, size_t shared,
                                   cudaStream_t stream) {
  return launch(kernel, grid, block, shared, stream);
}

API cudaError_t cudaLaunchKernel(const void* host, dim3 grid, dim3 block, void**, size_t shared, cudaStream_t stream) {
  return launch(host, grid, block, shared, stream);
}

API cudaError_t cudaLaunchCooperativeKernel(const void* host, dim3 grid, dim3 block, void**, size_t shared,
                                            cudaStream_t stream) {
  return launch(host, grid, block, shared, stream);
}

API cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* config, const void* host, void**) {
  return launch(host, config->gridDim, config->blockDim, config->dynamicSmemBytes, config->stream);
}

API cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void*) {
  *attributes = {};
  attributes->maxThreadsPerBlock = 1024;
  attributes->numRegs = 32;
  attributes->binaryVersion = attributes->ptxVersion = 90;
  attributes->maxDynamicSharedSizeBytes = 232448;
  return cudaSuccess;
}

API cudaError_t cudaFuncSetAttribute(const void*, cudaFuncAttribute, int) { return cudaSuccess; }

API cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void*, int, size_t) {
  *blocks = 2;
  return cudaSuccess;
}

API cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, const void*, int, size_t,
                                                                       unsigned) {
  *blocks = 2;
  return cudaSuccess;
}
