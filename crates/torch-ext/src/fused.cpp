// Fused optimizer steps, copies of many tensors, and gradients from a given one, which tch does not bind.

#include <vector>

#include <ATen/ops/_amp_foreach_non_finite_check_and_unscale.h>
#include <ATen/ops/_foreach_copy.h>
#include <ATen/ops/_fused_adam.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/_fused_sgd.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>

#include "guarded.h"

extern "C" {

char* grimace_foreach_copy(at::Tensor* const* targets, at::Tensor* const* sources, size_t count) {
  return guarded([&] {
    at::NoGradGuard no_grad;
    std::vector<at::Tensor> to, from;
    for (size_t i = 0; i < count; i++) {
      to.push_back(*targets[i]);
      from.push_back(*sources[i]);
    }
    at::_foreach_copy_(to, from);
  });
}

char* grimace_fused_adam(at::Tensor* values, at::Tensor* gradients, at::Tensor* first, at::Tensor* second, at::Tensor* step,
                         at::Tensor* lr, bool decoupled, double weight_decay, double beta1, double beta2, double epsilon) {
  return guarded([&] {
    at::NoGradGuard no_grad;
    if (decoupled) {
      at::_fused_adamw_({*values}, {*gradients}, {*first}, {*second}, {}, {*step}, *lr, beta1, beta2, weight_decay, epsilon,
                        /*amsgrad=*/false, /*maximize=*/false);
    } else {
      at::_fused_adam_({*values}, {*gradients}, {*first}, {*second}, {}, {*step}, *lr, beta1, beta2, weight_decay, epsilon,
                       /*amsgrad=*/false, /*maximize=*/false);
    }
  });
}

char* grimace_fused_sgd(at::Tensor* values, at::Tensor* gradients, at::Tensor* momentum_buffer, at::Tensor* lr,
                        double weight_decay, double momentum, bool nesterov) {
  return guarded([&] {
    at::NoGradGuard no_grad;
    // Without momentum libtorch expects no buffer.
    std::vector<at::Tensor> buffers;
    if (momentum != 0) {
      buffers.push_back(*momentum_buffer);
    }
    at::_fused_sgd_({*values}, {*gradients}, buffers, weight_decay, momentum, *lr, /*dampening=*/0.0, nesterov,
                    /*maximize=*/false, /*is_first_step=*/false);
  });
}

char* grimace_mark_nonfinite(at::Tensor* values, at::Tensor* mark, at::Tensor* one) {
  return guarded([&] {
    at::NoGradGuard no_grad;
    std::vector<at::Tensor> list = {*values};
    at::_amp_foreach_non_finite_check_and_unscale_(list, *mark, *one);
  });
}

// Writes a new tensor for each input to `gradients`, which the caller owns.
char* grimace_gradients(at::Tensor* output, at::Tensor* seed, at::Tensor* const* inputs, size_t count,
                        at::Tensor** gradients) {
  return guarded([&] {
    std::vector<at::Tensor> list;
    for (size_t i = 0; i < count; i++) {
      list.push_back(*inputs[i]);
    }
    auto results = torch::autograd::grad({*output}, list, {*seed});
    for (size_t i = 0; i < count; i++) {
      gradients[i] = new at::Tensor(std::move(results.at(i)));
    }
  });
}

}  // extern "C"
