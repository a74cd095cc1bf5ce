// The simulated devices and the calling thread's current device and streams.

#pragma once

#include <c10/core/Device.h>
#include <c10/core/Stream.h>

namespace sim {

constexpr int MAX_DEVICES = 16;

// CUDA_SIM_DEVICES.
c10::DeviceIndex device_count();
// CUDA_SIM_CAPABILITY, such as 75 for 7.5.
int capability();

extern thread_local c10::DeviceIndex current_device;

// Id of the calling thread's current stream; the default stream is 0.
c10::StreamId current_stream(c10::DeviceIndex device);

// Throws PyTorch's error for a device that does not exist.
c10::Device checked(c10::Device device);

// Makes `index` the current device within a scope.
class Current {
 public:
  explicit Current(c10::DeviceIndex index) : before(current_device) {
    current_device = checked(c10::Device(c10::DeviceType::CUDA, index)).index();
  }
  ~Current() { current_device = before; }
  Current(const Current&) = delete;
  Current& operator=(const Current&) = delete;

 private:
  c10::DeviceIndex before;
};

}  // namespace sim
