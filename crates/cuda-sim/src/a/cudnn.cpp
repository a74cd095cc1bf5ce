// Operations of cuDNN: convolution and batch normalization.

#include <array>
#include <initializer_list>
#include <string>
#include <tuple>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/native/ConvUtils.h>
#include <ATen/native/DispatchStub.h>
#include <torch/library.h>

#include "counts.h"
#include "graph.h"
#include "tensors.h"

namespace sim {

namespace {

using Sizes = at::IntArrayRef;
using Optional = std::optional<at::Tensor>;

void check_same_device(const char* name, std::initializer_list<at::Tensor> tensors) {
  const at::Tensor* first = nullptr;
  for (const at::Tensor& tensor : tensors) {
    if (!tensor.defined()) {
      continue;
    }
    if (first == nullptr) {
      first = &tensor;
    }
    TORCH_CHECK(tensor.device() == first->device(),
                "Expected all tensors to be on the same device, but found at least two devices, ", first->device(),
                " and ", tensor.device(), "! (", name, ")");
  }
}

c10::DeviceIndex index_of(const at::Tensor& tensor) { return static_cast<c10::DeviceIndex>(tensor.get_device()); }

// Pairs of the tensors and their host aliases, of those that are defined. The last `written` of them are written.
std::vector<Argument> arguments_of(const std::vector<std::pair<at::Tensor, at::Tensor>>& pairs, size_t written = 0) {
  std::vector<Argument> arguments;
  for (size_t i = 0; i < pairs.size(); i++) {
    if (pairs[i].first.defined()) {
      arguments.push_back({pairs[i].first, pairs[i].second, i + written >= pairs.size()});
    }
  }
  return arguments;
}

Optional optional(const at::Tensor& tensor) { return tensor.defined() ? std::make_optional(tensor) : std::nullopt; }

at::MemoryFormat format_of(const at::Tensor& input, const at::Tensor& weight) {
  const bool last = at::native::cudnn_conv_suggest_memory_format(input, weight) == at::MemoryFormat::ChannelsLast;
  return last ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous;
}

// As Ampere's tensor cores read float32 where TF32 is allowed: ten bits of mantissa, rounded to even.
at::Tensor tf32(const at::Tensor& tensor, bool allowed) {
  if (!allowed || tensor.scalar_type() != at::kFloat || env_number("CUDA_SIM_TF32", 0) == 0) {
    return tensor;
  }
  const auto bits = tensor.contiguous(tensor.suggest_memory_format()).view(at::kInt);
  const auto odd = at::bitwise_and(at::bitwise_right_shift(bits, 13), 1);
  return at::bitwise_and(bits + 0xfff + odd, ~0x1fff).view(at::kFloat);
}

std::string convolution_name(const at::Tensor& input, at::MemoryFormat format, bool benchmark, bool deterministic,
                             bool allow_tf32) {
  std::string name = std::string("aten::cudnn_convolution ") + c10::toString(input.scalar_type());
  name += format == at::MemoryFormat::ChannelsLast ? " channels-last" : " contiguous";
  name += allow_tf32 ? " tf32" : "";
  name += benchmark ? " benchmark" : "";
  name += deterministic ? " deterministic" : "";
  return name;
}

at::Tensor cudnn_convolution(const at::Tensor& input, const at::Tensor& weight, Sizes padding, Sizes stride,
                             Sizes dilation, int64_t groups, bool benchmark, bool deterministic, bool allow_tf32) {
  check_same_device("cudnn_convolution", {input, weight});
  TORCH_CHECK(input.scalar_type() == weight.scalar_type(), "cudnn_convolution: input is ", input.scalar_type(),
              ", weight is ", weight.scalar_type());
  const at::MemoryFormat format = format_of(input, weight);
  if (!weight.is_contiguous(format)) {
    begin_operation("(weight to the convolution's memory format)", index_of(input));
  }
  const at::Tensor x = host_alias(input), w = host_alias(weight);
  auto compute = [=, padding = padding.vec(), stride = stride.vec(), dilation = dilation.vec()] {
    const auto y = at::convolution(tf32(x, allow_tf32), tf32(w, allow_tf32), {}, stride, padding, dilation, false,
                                   {0, 0}, groups);
    return std::vector<at::Tensor>{y.contiguous(format)};
  };
  return execute({convolution_name(input, format, benchmark, deterministic, allow_tf32), index_of(input),
                  arguments_of({{input, x}, {weight, w}}), compute})[0];
}

std::tuple<at::Tensor, at::Tensor> cudnn_convolution_backward(
    const at::Tensor& input, const at::Tensor& gradient, const at::Tensor& weight, Sizes padding, Sizes stride,
    Sizes dilation, int64_t groups, bool, bool, bool allow_tf32, std::array<bool, 2> mask) {
  check_same_device("cudnn_convolution_backward", {input, gradient, weight});
  if (!mask[0] && !mask[1]) {
    return {};
  }
  const at::MemoryFormat format = format_of(input, weight);
  if (!gradient.is_contiguous(format)) {
    begin_operation("(gradient to the convolution's memory format)", index_of(input));
  }
  // Two operations where both gradients are wanted.
  if (mask[0] && mask[1]) {
    begin_operation("cudnn_convolution_backward_weight", index_of(input));
  }
  const at::Tensor x = host_alias(input), g = host_alias(gradient), w = host_alias(weight);
  auto compute = [=, padding = padding.vec(), stride = stride.vec(), dilation = dilation.vec()] {
    const auto [dx, dw, db] =
        at::convolution_backward(tf32(g, allow_tf32), tf32(x, allow_tf32), tf32(w, allow_tf32), std::nullopt, stride,
                                 padding, dilation, false, {0, 0}, groups, {mask[0], mask[1], false});
    const auto laid_out = [&](const at::Tensor& gradient) {
      return gradient.defined() ? gradient.contiguous(format) : gradient;
    };
    return std::vector<at::Tensor>{laid_out(dx), laid_out(dw)};
  };
  const auto results = execute({mask[0] ? "cudnn_convolution_backward_input" : "cudnn_convolution_backward_weight",
                                index_of(input), arguments_of({{input, x}, {gradient, g}, {weight, w}}), compute});
  return {results[0], results[1]};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> cudnn_batch_norm(const at::Tensor& input,
                                                                            const at::Tensor& weight,
                                                                            const Optional& bias, const Optional& mean,
                                                                            const Optional& variance, bool training,
                                                                            double momentum, double epsilon) {
  const at::Tensor b = bias.value_or(at::Tensor()), m = mean.value_or(at::Tensor()),
                   v = variance.value_or(at::Tensor());
  check_same_device("cudnn_batch_norm", {input, weight, b, m, v});
  const at::Tensor hx = host_alias(input), hw = alias_or_undefined(weight), hb = alias_or_undefined(b),
                   hm = alias_or_undefined(m), hv = alias_or_undefined(v);
  auto compute = [=] {
    const auto [y, saved_mean, saved_variance] = at::native_batch_norm(hx, optional(hw), optional(hb), optional(hm),
                                                                       optional(hv), training, momentum, epsilon);
    return std::vector<at::Tensor>{y, saved_mean, saved_variance};
  };
  const std::string name = std::string("aten::cudnn_batch_norm ") + c10::toString(input.scalar_type()) +
                           (training ? " training" : " inference");
  // The running statistics are written in training only.
  const auto results =
      execute({name, index_of(input),
               arguments_of({{input, hx}, {weight, hw}, {b, hb}, {m, hm}, {v, hv}}, training ? 2 : 0), compute});
  return {results[0], results[1], results[2], at::empty({0}, input.options().dtype(at::kByte))};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> cudnn_batch_norm_backward(
    const at::Tensor& input, const at::Tensor& gradient, const at::Tensor& weight, const Optional& mean,
    const Optional& variance, const Optional& saved_mean, const Optional& saved_variance, double epsilon,
    const at::Tensor&) {
  const at::Tensor m = mean.value_or(at::Tensor()), v = variance.value_or(at::Tensor()),
                   sm = saved_mean.value_or(at::Tensor()), sv = saved_variance.value_or(at::Tensor());
  check_same_device("cudnn_batch_norm_backward", {input, gradient, weight, m, v, sm, sv});
  if (!gradient.is_contiguous(input.suggest_memory_format())) {
    begin_operation("(gradient to the norm's memory format)", index_of(input));
  }
  const at::Tensor hx = host_alias(input), hg = host_alias(gradient), hw = alias_or_undefined(weight),
                   hm = alias_or_undefined(m), hv = alias_or_undefined(v), hsm = alias_or_undefined(sm),
                   hsv = alias_or_undefined(sv);
  auto compute = [=] {
    const auto [dx, dw, db] =
        at::native_batch_norm_backward(hg, hx, optional(hw), optional(hm), optional(hv), optional(hsm), optional(hsv),
                                       true, epsilon, {true, true, true});
    return std::vector<at::Tensor>{dx, dw, db};
  };
  const auto results = execute(
      {"aten::cudnn_batch_norm_backward", index_of(input),
       arguments_of({{input, hx}, {gradient, hg}, {weight, hw}, {m, hm}, {v, hv}, {sm, hsm}, {sv, hsv}}), compute});
  return {results[0], results[1], results[2]};
}

TORCH_LIBRARY_IMPL(aten, CUDA, m) {
  m.impl("cudnn_convolution", &cudnn_convolution);
  m.impl("cudnn_batch_norm", &cudnn_batch_norm);
  m.impl("cudnn_batch_norm_backward", &cudnn_batch_norm_backward);
  at::native::cudnn_convolution_backward_stub.set_cuda_dispatch_ptr(&cudnn_convolution_backward);
}

}  // namespace

}  // namespace sim
