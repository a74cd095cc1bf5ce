#include "tensors.h"

#include <cstring>

#include <ATen/ATen.h>
#include <ATen/core/LegacyTypeDispatch.h>

#include "counts.h"
#include "device.h"
#include "graph.h"
#include "memory.h"

namespace sim {

namespace {

using c10::DeviceType;
using c10::DispatchKey;

// `tensor` as it is, but with another storage and dispatch key.
at::Tensor with_storage(const at::Tensor& tensor, c10::Storage storage, DispatchKey key) {
  const c10::DispatchKeySet keys(key);
  auto result = at::detail::make_tensor<c10::TensorImpl>(std::move(storage), keys, tensor.dtype());
  auto* impl = result.unsafeGetTensorImpl();
  impl->set_sizes_and_strides(tensor.sizes(), tensor.strides(), tensor.storage_offset());
  if (tensor.is_conj()) {
    result._set_conj(true);
  }
  if (tensor.unsafeGetTensorImpl()->is_wrapped_number()) {
    impl->set_wrapped_number(true);
  }
  return result;
}

c10::Storage host_storage(const c10::Storage& storage) {
  c10::DataPtr data(storage.mutable_data(), nullptr, &c10::detail::deleteNothing, c10::Device(DeviceType::CPU));
  auto* allocator = c10::GetAllocator(DeviceType::CPU);
  return {c10::Storage::use_byte_size_t(), storage.nbytes(), std::move(data), allocator, /*resizable=*/true};
}

// Gives the caller's tensor what the host's kernel made of its alias, which has another size or memory after a resize.
void follow(const Argument& argument, c10::DeviceIndex index) {
  const auto& [own, alias, written] = argument;
  if (own.sizes() == alias.sizes() && own.strides() == alias.strides() &&
      own.storage().data() == alias.storage().data()) {
    return;
  }
  const at::Tensor moved = to_device(alias, index);
  auto* impl = own.unsafeGetTensorImpl();
  impl->set_storage_keep_dtype(moved.storage());
  impl->set_sizes_and_strides(moved.sizes(), moved.strides(), moved.storage_offset());
  // A replay writes to the new memory.
  alias.unsafeGetTensorImpl()->set_storage_keep_dtype(host_storage(moved.storage()));
}

// The argument that `host` is a view of, or null.
const Argument* viewed(const at::Tensor& host, const std::vector<Argument>& arguments) {
  for (const Argument& argument : arguments) {
    if (host.storage().data() != nullptr && host.storage().data() == argument.own.storage().data()) {
      return &argument;
    }
  }
  return nullptr;
}

}  // namespace

at::Tensor host_alias(const at::Tensor& tensor) {
  return with_storage(tensor, host_storage(tensor.storage()), DispatchKey::CPU);
}

at::Tensor alias_or_undefined(const at::Tensor& tensor) { return tensor.defined() ? host_alias(tensor) : tensor; }

at::Tensor to_device(const at::Tensor& host, c10::DeviceIndex index) {
  const Current current(index);
  const size_t bytes = host.storage().nbytes();
  c10::DataPtr data = device_allocator()->allocate(bytes);
  if (bytes > 0) {
    memcpy(data.get(), host.storage().data(), bytes);
  }
  c10::Storage storage(c10::Storage::use_byte_size_t(), bytes, std::move(data), device_allocator(), /*resizable=*/true);
  return with_storage(host, std::move(storage), DispatchKey::CUDA);
}

std::vector<at::Tensor> execute(const Operation& operation) {
  const bool captured = begin_operation(operation.name, operation.device);
  std::vector<at::Tensor> computed;
  {
    const at::AutoDispatchBelowADInplaceOrView below;
    computed = operation.compute();
  }
  Node node{operation.compute, {}, {}, operation.random};
  for (const Argument& argument : operation.arguments) {
    follow(argument, operation.device);
    if (argument.written) {
      node.written.push_back(argument.alias);
    }
  }
  std::vector<at::Tensor> results;
  for (const at::Tensor& host : computed) {
    at::Tensor result, into;
    if (!host.defined()) {
      // Such as a gradient that nobody asked for.
    } else if (const Argument* argument = viewed(host, operation.arguments)) {
      result = with_storage(host, argument->own.storage(), DispatchKey::CUDA);
    } else {
      result = to_device(host, operation.device);
      into = host_alias(result);
    }
    results.push_back(result);
    node.into.push_back(into);
  }
  if (captured) {
    record(std::move(node), operation.arguments);
  }
  return results;
}

}  // namespace sim
