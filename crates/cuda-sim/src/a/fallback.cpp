// Every operation that has no implementation of its own: libtorch's CPU kernel, on aliases of the arguments.

#include <algorithm>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>

#include "counts.h"
#include "device.h"
#include "graph.h"
#include "tensors.h"

namespace sim {

namespace {

using c10::Device;
using c10::DeviceType;
using c10::IValue;
using torch::jit::Stack;

bool starts_with(const std::string& text, const char* prefix) { return text.rfind(prefix, 0) == 0; }

// What waits for the device on a real one, though nothing says so in its schema.
bool waits(const std::string& name) {
  static const std::set<std::string> all = {
      "aten::equal",          "aten::nonzero",      "aten::masked_select",
      "aten::_unique",        "aten::_unique2",     "aten::unique_dim",
      "aten::bincount",       "aten::is_nonzero",   "aten::unique_consecutive",
      "aten::histc",          "aten::multinomial",  "aten::repeat_interleave.Tensor",
      "aten::is_set_to",      "aten::_assert_async", "aten::tril_indices",
  };
  return all.count(name) > 0;
}

// A tensor list is handed to kernels by reference, so each call gets its own.
IValue own_copy(const IValue& value) {
  if (value.isTensorList()) {
    return value.toTensorList().copy();
  }
  if (value.isOptionalTensorList()) {
    return value.toOptionalTensorList().copy();
  }
  return value;
}

// A call of an operation, taken from the stack and translated for the host.
class Call {
 public:
  Call(const c10::OperatorHandle& handle, Stack* stack)
      : handle(handle), schema(handle.schema()), name(schema.name()), tensors(schema.arguments().size()) {
    if (!schema.overload_name().empty()) {
      name += "." + schema.overload_name();
    }
    const size_t count = schema.arguments().size();
    for (const IValue& value : torch::jit::last(*stack, count)) {
      place = inputs.size();
      inputs.push_back(translated(value));
    }
    torch::jit::drop(*stack, count);
    check_devices();
  }

  void run(Stack* stack) {
    check_waits();
    auto outputs = std::make_shared<Stack>();
    const bool random = handle.hasTag(at::Tag::nondeterministic_seeded);
    std::vector<at::Tensor> results = execute({name, index(), arguments, computation(outputs), random});
    auto next = results.begin();
    for (size_t i = 0; i < outputs->size(); i++) {
      stack->push_back(returned(i, (*outputs)[i], next));
    }
  }

 private:
  at::Tensor taken(const at::Tensor& tensor) {
    tensors[place].push_back(tensor);
    if (!tensor.defined()) {
      return tensor;
    }
    if (tensor.is_cuda()) {
      TORCH_CHECK(!device.has_value() || *device == tensor.device(),
                  "Expected all tensors to be on the same device, but got tensors on ", *device, " and ",
                  tensor.device(), " in ", name);
      device = tensor.device();
      const auto* info = schema.arguments()[place].alias_info();
      arguments.push_back({tensor, host_alias(tensor), info != nullptr && info->isWrite()});
      return arguments.back().alias;
    }
    if (tensor.dim() > 0) {
      on_host = true;
    } else if (!tensor.unsafeGetTensorImpl()->is_wrapped_number()) {
      complain("a scalar on the CPU goes into " + name);
    }
    if (!is_capturing()) {
      return tensor;
    }
    // A graph holds the value that a scalar had at the capture.
    at::Tensor copy = tensor.clone();
    copy.unsafeGetTensorImpl()->set_wrapped_number(tensor.unsafeGetTensorImpl()->is_wrapped_number());
    return copy;
  }

  IValue translated(const IValue& value) {
    if (value.isTensor()) {
      return taken(value.toTensor());
    }
    if (value.isTensorList()) {
      c10::List<at::Tensor> list;
      for (const at::Tensor& one : value.toTensorVector()) {
        list.push_back(taken(one));
      }
      return list;
    }
    if (value.isOptionalTensorList()) {
      c10::List<std::optional<at::Tensor>> list;
      for (const std::optional<at::Tensor>& one : value.toOptionalTensorVector()) {
        list.push_back(one.has_value() ? std::make_optional(taken(*one)) : std::nullopt);
      }
      return list;
    }
    if (value.isDevice()) {
      device = value.toDevice();
      if (!device->has_index()) {
        device = Device(DeviceType::CUDA, current_device);
      }
      return Device(DeviceType::CPU);
    }
    if (value.isGenerator()) {
      // The CPU's default generator, which the program seeds together with the device's.
      return IValue();
    }
    return value;
  }

  // `index` and its kind take indices from the CPU and copy them; everything else refuses.
  void check_devices() {
    if (!on_host || !device.has_value() || !device->is_cuda()) {
      return;
    }
    TORCH_CHECK(takes_indices(), "Expected all tensors to be on the same device, but found at least two devices, ",
                *device, " and cpu! (when checking arguments of ", name, ")");
    complain("an index on the CPU goes into " + name);
    refuse_while_capturing();
  }

  bool takes_indices() const {
    return starts_with(schema.name(), "aten::index") || starts_with(schema.name(), "aten::_index_put");
  }

  void check_waits() const {
    // Indices that are masks are turned into numbers by `nonzero`.
    const auto is_mask = [](const Argument& argument) {
      const at::ScalarType type = argument.own.scalar_type();
      return type == at::kBool || type == at::kByte;
    };
    const bool masked = schema.name() == "aten::index" || schema.name() == "aten::_index_put_impl_";
    const bool by_mask = masked && arguments.size() > 1 && std::any_of(arguments.begin() + 1, arguments.end(), is_mask);
    if (waits(name) || by_mask) {
      refuse_while_capturing();
      count_sync(name);
    }
  }

  c10::DeviceIndex index() const {
    return device.has_value() && device->has_index() ? device->index() : current_device;
  }

  // Calls the kernel and returns the tensors among its results that are not arguments. All results of the first call go
  // to `outputs`, while that lives.
  Compute computation(const std::shared_ptr<Stack>& outputs) const {
    return [handle = handle, inputs = inputs, first = std::weak_ptr<Stack>(outputs)] {
      Stack stack;
      for (const IValue& value : inputs) {
        stack.push_back(own_copy(value));
      }
      handle.redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::CPU), &stack);
      std::vector<at::Tensor> results;
      for (size_t i = 0; i < stack.size(); i++) {
        const auto* info = handle.schema().returns()[i].alias_info();
        if (info != nullptr && info->isWrite()) {
          continue;
        }
        if (stack[i].isTensor()) {
          results.push_back(stack[i].toTensor());
        } else if (stack[i].isTensorList()) {
          const auto list = stack[i].toTensorVector();
          results.insert(results.end(), list.begin(), list.end());
        }
      }
      if (const auto kept = first.lock()) {
        *kept = std::move(stack);
      }
      return results;
    };
  }

  // What the caller gets for the kernel's result number `i`; `next` goes through the results on the device.
  IValue returned(size_t i, const IValue& value, std::vector<at::Tensor>::iterator& next) const {
    const auto* info = schema.returns()[i].alias_info();
    if (info != nullptr && info->isWrite()) {
      for (size_t a = 0; a < tensors.size(); a++) {
        const auto* argument = schema.arguments()[a].alias_info();
        if (argument != nullptr && argument->isWrite() && argument->afterSets() == info->afterSets() &&
            !tensors[a].empty()) {
          return value.isTensorList() ? IValue(tensors[a]) : IValue(tensors[a][0]);
        }
      }
      return value;
    }
    if (value.isTensor()) {
      return *next++;
    }
    if (value.isTensorList()) {
      const auto count = static_cast<std::ptrdiff_t>(value.toTensorList().size());
      std::vector<at::Tensor> list(next, next + count);
      next += count;
      return list;
    }
    return value;
  }

  c10::OperatorHandle handle;
  const c10::FunctionSchema& schema;
  std::string name;
  // The caller's tensors, by argument.
  std::vector<std::vector<at::Tensor>> tensors;
  // Number of the argument that is being translated.
  size_t place = 0;
  std::vector<Argument> arguments;
  Stack inputs;
  std::optional<Device> device;
  bool on_host = false;
};

void run_on_host(const c10::OperatorHandle& handle, c10::DispatchKeySet, Stack* stack) {
  Call(handle, stack).run(stack);
}

TORCH_LIBRARY_IMPL(_, CUDA, m) { m.fallback(torch::CppFunction::makeFromBoxedFunction<&run_on_host>()); }

// These have kernels for CUDA that take whole lists, and for the CPU only a loop that is registered for every device:
// it would come before the fallback and count every tensor's operation.
TORCH_LIBRARY_IMPL(aten, CUDA, m) {
  for (const c10::OperatorName& name : c10::Dispatcher::singleton().getAllOpNames()) {
    if (starts_with(name.name, "aten::_foreach_") && name.overload_name.find("out") == std::string::npos) {
      const std::string full = c10::toString(name).substr(sizeof("aten::") - 1);
      m.impl(full.c_str(), torch::CppFunction::makeFromBoxedFunction<&run_on_host>());
    }
  }
}

}  // namespace

}  // namespace sim
