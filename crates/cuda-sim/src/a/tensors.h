// Tensors of the device as host tensors of the same memory, and operations on them.

#pragma once

#include <functional>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

namespace sim {

// A host tensor of the same memory. It does not keep the memory alive.
at::Tensor host_alias(const at::Tensor& tensor);

// Host aliases of all that is defined; what is not stays so.
at::Tensor alias_or_undefined(const at::Tensor& tensor);

// A tensor of the device with a copy of the host tensor's memory.
at::Tensor to_device(const at::Tensor& host, c10::DeviceIndex index);

// An argument as the caller has it and as the host computes with it.
struct Argument {
  at::Tensor own, alias;
  bool written = false;
};

// Computes on host aliases. A graph calls this once for the capture and once for every replay.
using Compute = std::function<std::vector<at::Tensor>()>;

struct Operation {
  std::string name;
  c10::DeviceIndex device;
  std::vector<Argument> arguments;
  // Returns new tensors or views of the arguments; what is written in place is not among them.
  Compute compute;
  // Whether it draws random numbers.
  bool random = false;
};

// Counts the operation, computes it, records it if a graph is being captured, and returns the results on the device.
std::vector<at::Tensor> execute(const Operation& operation);

}  // namespace sim
