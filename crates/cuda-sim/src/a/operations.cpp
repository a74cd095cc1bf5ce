// Operations that make, view or copy tensors, which the fallback cannot do.

#include <ATen/ATen.h>
#include <ATen/EmptyTensor.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <torch/library.h>

#include "counts.h"
#include "device.h"
#include "graph.h"
#include "memory.h"
#include "tensors.h"

namespace sim {

namespace {

using c10::Device;
using c10::DispatchKey;
using c10::DispatchKeySet;
using Sizes = at::IntArrayRef;

c10::DeviceIndex index_of(std::optional<Device> device) {
  return device.has_value() && device->has_index() ? device->index() : current_device;
}

at::Tensor empty(Sizes size, std::optional<at::ScalarType> dtype, std::optional<at::Layout>,
                 std::optional<Device> device, std::optional<bool>, std::optional<at::MemoryFormat> format) {
  const Current current(index_of(device));
  return at::detail::empty_generic(size, device_allocator(), DispatchKeySet(DispatchKey::CUDA),
                                   at::dtype_or_default(dtype), format);
}

at::Tensor empty_strided(Sizes size, Sizes stride, std::optional<at::ScalarType> dtype, std::optional<at::Layout>,
                         std::optional<Device> device, std::optional<bool>) {
  const Current current(index_of(device));
  return at::detail::empty_strided_generic(size, stride, device_allocator(), DispatchKeySet(DispatchKey::CUDA),
                                           at::dtype_or_default(dtype));
}

const at::Tensor& resize_(const at::Tensor& self, Sizes size, std::optional<at::MemoryFormat> format) {
  const Current current(self.get_device());
  auto fresh = at::detail::empty_generic(size, device_allocator(), DispatchKeySet(DispatchKey::CUDA),
                                         self.scalar_type(), format);
  auto* impl = self.unsafeGetTensorImpl();
  if (fresh.storage().nbytes() > self.storage().nbytes()) {
    impl->set_storage_keep_dtype(fresh.storage());
  }
  impl->set_sizes_and_strides(fresh.sizes(), fresh.strides());
  return self;
}

at::Tensor as_strided(const at::Tensor& self, Sizes size, Sizes stride, std::optional<int64_t> offset) {
  return at::native::as_strided_tensorimpl(self, size, stride, offset);
}

at::Tensor view(const at::Tensor& self, Sizes size) { return at::native::view(self, size); }

at::Tensor reshape_alias(const at::Tensor& self, Sizes size, Sizes stride) {
  return at::native::_reshape_alias(self, size, stride);
}

at::Tensor unfold(const at::Tensor& self, int64_t dimension, int64_t size, int64_t step) {
  return at::native::unfold(self, dimension, size, step);
}

// Memory is freed only after the device has run what was asked of it, so there is nothing to remember.
void record_stream(at::Tensor&, c10::Stream) {}

void copy_within_device(const at::Tensor& self, const at::Tensor& source) {
  const bool same = self.device() == source.device();
  if (!same) {
    complain("a copy from device to device");
  }
  const at::Tensor to = host_alias(self), from = host_alias(source);
  execute({same ? "aten::copy_" : "aten::copy_ between devices",
           static_cast<c10::DeviceIndex>(self.get_device()),
           {{self, to, true}, {source, from}},
           [to, from]() -> std::vector<at::Tensor> {
             to.copy_(from);
             return {};
           }});
}

void copy_through_host(const at::Tensor& self, const at::Tensor& source, bool non_blocking) {
  refuse_while_capturing();
  const bool up = self.is_cuda();
  count_copy(up, source.numel() * source.itemsize());
  // From memory that is not pinned, both directions wait for the stream. Whether it is pinned is taken from the flag.
  if (!non_blocking) {
    count_sync(up ? "copy to the device" : "copy to the host");
  }
  if (self.scalar_type() != source.scalar_type() || self.strides() != source.strides()) {
    count_launch("(conversion for a copy)");
  }
  const at::AutoDispatchBelowADInplaceOrView below;
  const at::Tensor to = up ? host_alias(self) : self;
  to.copy_(up ? source : host_alias(source));
}

at::Tensor& copy_(at::Tensor& self, const at::Tensor& source, bool non_blocking) {
  if (!source.defined() || self.is_same(source) || self.numel() == 0) {
    return self;
  }
  if (self.is_cuda() && source.is_cuda()) {
    copy_within_device(self, source);
  } else {
    copy_through_host(self, source, non_blocking);
  }
  return self;
}

at::Scalar local_scalar_dense(const at::Tensor& self) {
  refuse_while_capturing();
  count_sync("_local_scalar_dense");
  count_copy(false, self.itemsize());
  const at::AutoDispatchBelowADInplaceOrView below;
  return at::_local_scalar_dense(host_alias(self));
}

TORCH_LIBRARY_IMPL(aten, CUDA, m) {
  m.impl("empty.memory_format", &empty);
  m.impl("empty_strided", &empty_strided);
  m.impl("resize_", &resize_);
  m.impl("as_strided", &as_strided);
  m.impl("view", &view);
  m.impl("_reshape_alias", &reshape_alias);
  m.impl("unfold", &unfold);
  m.impl("record_stream", &record_stream);
  m.impl("copy_", &copy_);
  m.impl("_local_scalar_dense", &local_scalar_dense);
}

}  // namespace

}  // namespace sim
