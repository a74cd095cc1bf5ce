// The CUDA library, opened at run time, and what is found in it by name: versions and properties of devices, and
// libtorch's CUDA graphs. Nothing here is linked to CUDA, so that one program runs with and without it.

#include <dlfcn.h>

#include <cstdlib>
#include <cstring>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>

#include <ATen/Context.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <c10/util/Exception.h>

#include "guarded.h"

namespace {

void* library = nullptr;
// Whether a capture has failed in this process. See grimace_graph_capture.
bool capture_failed = false;

// A function of the CUDA library or of one that it needs.
template <typename F>
F* find(const char* name) {
  void* symbol = library == nullptr ? nullptr : dlsym(library, name);
  if (symbol == nullptr) {
    throw std::runtime_error(std::string("the CUDA library has no ") + name);
  }
  return reinterpret_cast<F*>(symbol);
}

c10::impl::VirtualGuardImpl cuda_guard() { return c10::impl::VirtualGuardImpl(c10::DeviceType::CUDA); }

c10::Device cuda_device(int index) { return {c10::DeviceType::CUDA, static_cast<c10::DeviceIndex>(index)}; }

// cudaDeviceAttr of the CUDA runtime.
constexpr int CAPABILITY_MAJOR = 75, CAPABILITY_MINOR = 76;
// More than sizeof(cudaDeviceProp) of any version. The struct begins with the name, 256 bytes.
constexpr size_t PROPERTIES = 8192, NAME = 256;
// More than sizeof(at::cuda::CUDAGraph), whose header needs those of CUDA; torch-sys pins libtorch's version.
constexpr size_t GRAPH = 4096, GRAPH_ALIGNMENT = 64;

// Members of at::cuda::CUDAGraph, as functions of the object. The names are those of the Itanium C++ ABI.
void construct_graph(void* graph) { find<void(void*, bool)>("_ZN2at4cuda9CUDAGraphC1Eb")(graph, false); }
void destroy_graph(void* graph) { find<void(void*)>("_ZN2at4cuda9CUDAGraphD1Ev")(graph); }
void begin_capture(void* graph) {
  // The mode is cudaStreamCaptureModeThreadLocal: a thread that writes a checkpoint cannot break the capture.
  constexpr int thread_local_mode = 1;
  auto begin = find<void(void*, std::pair<unsigned long long, unsigned long long>, int)>(
      "_ZN2at4cuda9CUDAGraph13capture_beginESt4pairIyyE21cudaStreamCaptureMode");
  begin(graph, {0, 0}, thread_local_mode);
}
void end_capture(void* graph) { find<void(void*)>("_ZN2at4cuda9CUDAGraph11capture_endEv")(graph); }

// Gives the current device's generator a new state. After a capture that failed, libtorch takes the old one to be
// in a capture still.
void renew_generator() {
  const auto device = cuda_guard().getDevice();
  auto generator = at::globalContext().defaultGenerator(device);
  generator.graphsafe_set_state(at::globalContext().getAcceleratorHooksInterface(c10::DeviceType::CUDA)
                                    .getNewGenerator(device.index()));
}

}  // namespace

extern "C" {

char* grimace_cuda_open(const char* path) {
  library = dlopen(path, RTLD_NOW | RTLD_GLOBAL);
  if (library == nullptr) {
    const char* reason = dlerror();
    return message(reason == nullptr ? "dlopen failed" : reason);
  }
  return nullptr;
}

// Libtorch's first look for devices, without its warning.
char* grimace_cuda_look_silently() {
  return guarded([&] {
    struct Silent : c10::WarningHandler {
      void process(const c10::Warning&) override {}
    } silent;
    c10::WarningUtils::WarningHandlerGuard guard(&silent);
    at::hasCUDA();
  });
}

// The error code of cudaGetDeviceCount.
char* grimace_cuda_device_count(int* count, int* code) {
  return guarded([&] { *code = find<int(int*)>("cudaGetDeviceCount")(count); });
}

char* grimace_cuda_error_text(int code, char** text) {
  return guarded([&] { *text = message(find<const char*(int)>("cudaGetErrorString")(code)); });
}

// CUDA versions, such as 13000 for 13.0: the newest that the driver supports, and the runtime's.
char* grimace_cuda_versions(int* driver, int* runtime) {
  return guarded([&] {
    find<int(int*)>("cudaDriverGetVersion")(driver);
    find<int(int*)>("cudaRuntimeGetVersion")(runtime);
  });
}

char* grimace_cuda_properties(int device, char** name, int* major, int* minor) {
  return guarded([&] {
    auto attribute = find<int(int*, int, int)>("cudaDeviceGetAttribute");
    if (attribute(major, CAPABILITY_MAJOR, device) != 0 || attribute(minor, CAPABILITY_MINOR, device) != 0) {
      throw std::runtime_error("the compute capability cannot be read");
    }
    std::string properties(PROPERTIES, '\0');
    if (find<int(void*, int)>("cudaGetDeviceProperties")(properties.data(), device) != 0) {
      throw std::runtime_error("the properties cannot be read");
    }
    *name = message(std::string(properties.data(), strnlen(properties.data(), NAME)));
  });
}

char* grimace_cuda_memory(int device, size_t* available, size_t* total) {
  return guarded([&] {
    const auto guard = cuda_guard();
    const auto before = guard.exchangeDevice(cuda_device(device));
    const int code = find<int(size_t*, size_t*)>("cudaMemGetInfo")(available, total);
    guard.setDevice(before);
    if (code != 0) {
      throw std::runtime_error("the memory of the device cannot be read");
    }
  });
}

char* grimace_cudnn_settings(bool tf32, bool deterministic) {
  return guarded([&] {
    at::globalContext().setAllowTF32CuDNN(tf32);
    at::globalContext().setAllowTF32CuBLAS(tf32);
    at::globalContext().setDeterministicCuDNN(deterministic);
    at::globalContext().setBenchmarkCuDNN(false);
  });
}

char* grimace_cuda_set_device(int device) {
  return guarded([&] { cuda_guard().setDevice(cuda_device(device)); });
}

char* grimace_cuda_synchronize(int device) {
  return guarded([&] { cuda_guard().synchronizeDevice(static_cast<c10::DeviceIndex>(device)); });
}

// Makes a device and a new stream of it the current ones of this thread; a capture uses both. `before` gets what
// grimace_stream_leave needs.
char* grimace_stream_enter(int device, int64_t before[4]) {
  return guarded([&] {
    const auto guard = cuda_guard();
    guard.synchronizeDevice(static_cast<c10::DeviceIndex>(device));
    before[3] = guard.exchangeDevice(cuda_device(device)).index();
    const auto packed = guard.exchangeStream(guard.getStreamFromGlobalPool(cuda_device(device))).pack3();
    before[0] = packed.stream_id;
    before[1] = packed.device_index;
    before[2] = static_cast<int64_t>(packed.device_type);
  });
}

char* grimace_stream_leave(const int64_t before[4]) {
  return guarded([&] {
    const auto guard = cuda_guard();
    guard.synchronizeDevice(static_cast<c10::DeviceIndex>(before[1]));
    guard.exchangeStream(c10::Stream::unpack3(before[0], static_cast<c10::DeviceIndex>(before[1]),
                                              static_cast<c10::DeviceType>(before[2])));
    guard.setDevice(cuda_device(static_cast<int>(before[3])));
  });
}

// Records what `body` launches on the current stream, without running it. `*graph` is to be freed by the caller.
//
// After a capture that failed, libtorch's allocator still refers to the graph. So that object stays, a few kilobytes, and
// nothing else is captured in this process.
char* grimace_graph_capture(void* context, int (*body)(void* context), void** graph) {
  void* memory = nullptr;
  if (capture_failed) {
    return message("an earlier CUDA graph could not be recorded in this process");
  }
  char* failure = guarded([&] {
    memory = aligned_alloc(GRAPH_ALIGNMENT, GRAPH);
    if (memory == nullptr) {
      throw std::bad_alloc();
    }
    memset(memory, 0, GRAPH);
    construct_graph(memory);
    begin_capture(memory);
    const int code = body(context);
    // Also after an error: the stream must not stay in capture.
    end_capture(memory);
    if (code != 0) {
      throw std::runtime_error("the captured function failed");
    }
  });
  if (failure != nullptr) {
    capture_failed = true;
    // What failed is reported, not this.
    free(guarded([&] { renew_generator(); }));
    return failure;
  }
  *graph = memory;
  return nullptr;
}

char* grimace_graph_replay(void* graph) {
  return guarded([&] { find<void(void*)>("_ZN2at4cuda9CUDAGraph6replayEv")(graph); });
}

void grimace_graph_free(void* graph) {
  free(guarded([&] { destroy_graph(graph); }));
  free(graph);
}

}  // extern "C"
