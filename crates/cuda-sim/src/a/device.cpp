// Device guard (devices, streams, events), random number generator and hooks, by which libtorch finds the device.

#include "device.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <string>
#include <vector>

#include <ATen/core/Generator.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/Allocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

#include "counts.h"
#include "graph.h"
#include "memory.h"

namespace sim {

thread_local c10::DeviceIndex current_device = 0;

c10::DeviceIndex device_count() {
  static const auto count = std::clamp<int64_t>(env_number("CUDA_SIM_DEVICES", 1), 0, MAX_DEVICES);
  return static_cast<c10::DeviceIndex>(count);
}

int capability() { return static_cast<int>(env_number("CUDA_SIM_CAPABILITY", 90)); }

c10::Device checked(c10::Device device) {
  TORCH_CHECK(device.is_cuda() && device.index() < device_count(), "CUDA error: invalid device ordinal");
  return device;
}

namespace {

using c10::Device;
using c10::DeviceIndex;
using c10::DeviceType;
using c10::Stream;

thread_local std::array<c10::StreamId, MAX_DEVICES> streams{};

DeviceIndex index_or_current(DeviceIndex index) { return index < 0 ? current_device : index; }

Stream stream_of(DeviceIndex index, c10::StreamId id) {
  return Stream(Stream::UNSAFE, Device(DeviceType::CUDA, index), id);
}

// As many streams as PyTorch's pool has, given out in turn.
Stream next_stream(DeviceIndex index) {
  static std::atomic<int64_t> next{0};
  return stream_of(index, next++ % 32 + 1);
}

// An event remembers only whether it belongs to a capture.
struct Event {
  bool captured = false;
};

void synchronize(const char* what) {
  refuse_while_capturing();
  count_sync(what);
}

struct DeviceGuard final : c10::impl::DeviceGuardImplInterface {
  DeviceType type() const override { return DeviceType::CUDA; }
  Device exchangeDevice(Device device) const override {
    const Device before(DeviceType::CUDA, current_device);
    setDevice(device);
    return before;
  }
  Device getDevice() const override { return {DeviceType::CUDA, current_device}; }
  void setDevice(Device device) const override {
    if (device.index() >= 0) {
      current_device = checked(device).index();
    }
  }
  void uncheckedSetDevice(Device device) const noexcept override {
    if (device.index() >= 0) {
      current_device = device.index();
    }
  }
  DeviceIndex deviceCount() const noexcept override { return device_count(); }

  Stream getStream(Device device) const override {
    const DeviceIndex index = index_or_current(device.index());
    return stream_of(index, current_stream(index));
  }
  Stream getDefaultStream(Device device) const override { return stream_of(index_or_current(device.index()), 0); }
  Stream getNewStream(Device device, int) const override { return next_stream(index_or_current(device.index())); }
  Stream getStreamFromGlobalPool(Device device, bool) const override {
    return next_stream(index_or_current(device.index()));
  }
  Stream exchangeStream(Stream stream) const override {
    auto& current = streams.at(checked(stream.device()).index());
    const Stream before = stream_of(stream.device_index(), current);
    current = stream.id();
    return before;
  }
  bool queryStream(const Stream&) const override {
    refuse_while_capturing();
    return true;
  }
  void synchronizeStream(const Stream&) const override { synchronize("stream synchronize"); }
  void synchronizeDevice(const DeviceIndex) const override { synchronize("device synchronize"); }

  void record(void** event, const Stream& stream, const DeviceIndex, const c10::EventFlag) const override {
    if (*event == nullptr) {
      *event = new Event;
    }
    static_cast<Event*>(*event)->captured = is_captured(stream);
    if (!is_captured(stream)) {
      count_launch("(event record)");
    }
  }
  void block(void* event, const Stream& stream) const override {
    if (event == nullptr) {
      return;
    }
    if (wait_in_capture(static_cast<Event*>(event)->captured, stream)) {
      return;
    }
    count_launch("(stream wait event)");
  }
  bool queryEvent(void*) const override {
    refuse_while_capturing();
    return true;
  }
  void synchronizeEvent(void*) const override { synchronize("event synchronize"); }
  void destroyEvent(void* event, const DeviceIndex) const noexcept override { delete static_cast<Event*>(event); }
};

C10_REGISTER_GUARD_IMPL(CUDA, DeviceGuard)

// Only a mark of the program's steps: the CPU kernels draw from the CPU's generator, which is seeded together with it.
struct DeviceGenerator final : c10::GeneratorImpl {
  explicit DeviceGenerator(DeviceIndex index)
      : GeneratorImpl(Device(DeviceType::CUDA, index), c10::DispatchKeySet(c10::DispatchKey::CUDA)) {}

  void set_current_seed(uint64_t seed) override {
    TORCH_CHECK(!is_capturing(), "Cannot call CUDAGeneratorImpl::set_current_seed during CUDA graph capture");
    value = seed;
    if (device_.index() == 0) {
      begin_segment();
    }
  }
  void set_offset(uint64_t) override {}
  uint64_t get_offset() const override { return 0; }
  uint64_t current_seed() const override { return value; }
  uint64_t seed() override { return value; }
  void set_state(const c10::TensorImpl&) override {}
  c10::intrusive_ptr<c10::TensorImpl> get_state() const override {
    TORCH_CHECK(false, "the simulated device's generator has no state");
  }
  GeneratorImpl* clone_impl() const override { return new DeviceGenerator(device_.index()); }

  uint64_t value = c10::default_rng_seed_val;
};

const std::vector<at::Generator>& default_generators() {
  static const auto* all = [] {
    auto* generators = new std::vector<at::Generator>;
    for (DeviceIndex index = 0; index < device_count(); index++) {
      generators->push_back(at::make_generator<DeviceGenerator>(index));
    }
    return generators;
  }();
  return *all;
}

}  // namespace

c10::StreamId current_stream(DeviceIndex device) { return streams.at(device); }

}  // namespace sim

namespace at {

struct SimulatedHooks final : CUDAHooksInterface {
  explicit SimulatedHooks(CUDAHooksArgs) {}

  void init() const override {}
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return sim::device_count() > 0; }
  bool hasCUDA() const override { return sim::device_count() > 0; }
  bool hasCUDART() const override { return true; }
  bool hasPrimaryContext(DeviceIndex) const override { return true; }
  DeviceIndex deviceCount() const override { return sim::device_count(); }
  int getNumGPUs() const override { return sim::device_count(); }

  DeviceIndex current_device() const override { return sim::current_device; }
  DeviceIndex getCurrentDevice() const override { return sim::current_device; }
  void setCurrentDevice(DeviceIndex index) const override { exchangeDevice(index); }
  DeviceIndex maybeExchangeDevice(DeviceIndex index) const override { return exchangeDevice(index); }
  DeviceIndex exchangeDevice(DeviceIndex index) const override {
    const DeviceIndex before = sim::current_device;
    if (index >= 0) {
      sim::current_device = sim::checked(Device(kCUDA, index)).index();
    }
    return before;
  }
  void deviceSynchronize(DeviceIndex) const override { sim::synchronize("device synchronize"); }

  bool hasCuDNN() const override { return true; }
  bool compiledWithCuDNN() const override { return true; }
  bool supportsDilatedConvolutionWithCuDNN() const override { return true; }
  bool supportsDepthwiseConvolutionWithCuDNN() const override { return true; }
  bool supportsBFloat16ConvolutionWithCuDNNv8() const override { return sim::capability() >= 80; }
  long versionCuDNN() const override { return 91900; }
  long versionRuntimeCuDNN() const override { return 91900; }
  long versionCUDART() const override { return 13000; }
  double batchnormMinEpsilonCuDNN() const override { return 0; }
  std::string showConfig() const override { return "simulated"; }

  const Generator& getDefaultGenerator(DeviceIndex index) const override {
    return sim::default_generators().at(sim::index_or_current(index));
  }
  Generator getNewGenerator(DeviceIndex index) const override {
    return make_generator<sim::DeviceGenerator>(sim::index_or_current(index));
  }

  Device getDeviceFromPtr(void*) const override { return {kCUDA, sim::current_device}; }
  // Pinned memory is ordinary host memory here.
  bool isPinnedPtr(const void*) const override { return false; }
  Allocator* getPinnedMemoryAllocator() const override { return c10::GetAllocator(kCPU); }
  Allocator* getCUDADeviceAllocator() const override { return sim::device_allocator(); }
};

C10_REGISTER_CLASS(CUDAHooksRegistry, CUDAHooks, SimulatedHooks)

}  // namespace at
