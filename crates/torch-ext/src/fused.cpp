// Fused optimizer steps and copies of many tensors, which tch does not bind.

#include <vector>

#include <ATen/ops/_foreach_copy.h>
#include <ATen/ops/_fused_adam.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/_fused_sgd.h>
#include <ATen/core/grad_mode.h>

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
    at::_fused_sgd_({*values}, {*gradients}, {*momentum_buffer}, weight_decay, momentum, *lr, /*dampening=*/0.0, nesterov,
                    /*maximize=*/false, /*is_first_step=*/false);
  });
}

}  // extern "C"
