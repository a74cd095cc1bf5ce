// Autograd functions implemented in Rust, and libtorch's thread pool for their computations.

#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/variable.h>

#include "guarded.h"

extern "C" {

// Computes the gradients of the inputs from the gradient of the output (borrowed). `gradients` has one element per input,
// set to a new tensor that the caller of the callback owns, or nullptr for no gradient. Returns nullptr or a message to free.
typedef char* (*grimace_backward)(void* context, at::Tensor* gradient, at::Tensor** gradients);
typedef void (*grimace_drop)(void* context);
typedef void (*grimace_body)(void* context, size_t index);

}  // extern "C"

namespace {

// Node of the autograd graph that calls back into Rust. It owns `context`.
struct RustNode : torch::autograd::Node {
  RustNode(std::string title, void* context, grimace_backward backward, grimace_drop drop, size_t inputs)
      : title(std::move(title)), context(context), backward(backward), drop(drop), inputs(inputs) {}

  ~RustNode() override { release_variables(); }

  // Autograd calls this after a backward pass to free saved tensors.
  void release_variables() override {
    if (context != nullptr) {
      drop(context);
      context = nullptr;
    }
  }

  torch::autograd::variable_list apply(torch::autograd::variable_list&& outputs) override {
    torch::autograd::variable_list result(inputs);
    if (!outputs.at(0).defined()) {
      return result;
    }
    TORCH_CHECK(context != nullptr, "second backward pass through ", title, ": its saved tensors were freed after the first");
    std::vector<at::Tensor*> gradients(inputs, nullptr);
    char* failure = backward(context, &outputs[0], gradients.data());
    for (size_t i = 0; i < inputs; i++) {
      if (gradients[i] != nullptr) {
        result[i] = std::move(*gradients[i]);
        delete gradients[i];
      }
    }
    if (failure != nullptr) {
      std::string text(failure);
      free(failure);
      throw std::runtime_error(text);
    }
    return result;
  }

  std::string name() const override { return title; }

  std::string title;
  void* context;
  grimace_backward backward;
  grimace_drop drop;
  size_t inputs;
};

}  // namespace

extern "C" {

char* grimace_copy_text(const char* text) { return strdup(text); }

// Records `output` (a new tensor without history) as the result of a function of `inputs`. Takes ownership of `context` in
// every case.
char* grimace_set_backward(const char* title, at::Tensor* output, at::Tensor* const* inputs, size_t count, void* context,
                           grimace_backward backward, grimace_drop drop) {
  return guarded([&] {
    auto node = std::shared_ptr<RustNode>(new RustNode(title, context, backward, drop, count), torch::autograd::deleteNode);
    torch::autograd::variable_list list;
    for (size_t i = 0; i < count; i++) {
      list.push_back(*inputs[i]);
    }
    if (!at::GradMode::is_enabled() || !torch::autograd::any_variable_requires_grad(list)) {
      return;
    }
    node->set_next_edges(torch::autograd::collect_next_edges(list));
    torch::autograd::set_history(*output, node);
  });
}

// Calls `body` with every index below `count`, on libtorch's thread pool.
char* grimace_parallel(size_t count, void* context, grimace_body body) {
  return guarded([&] {
    at::parallel_for(0, static_cast<int64_t>(count), 1, [&](int64_t begin, int64_t end) {
      for (int64_t index = begin; index < end; index++) {
        body(context, static_cast<size_t>(index));
      }
    });
  });
}

}  // extern "C"
