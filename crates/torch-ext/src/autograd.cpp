// Differentiable functions that are written in Rust, and libtorch's threads for what they compute.

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

// Computes the gradients by the inputs from that by the output (borrowed). `gradients` has one place for each input: a new
// tensor, owned by the caller of the callback, or nullptr for none. Returns nullptr, or a message to be freed.
typedef char* (*grimace_backward)(void* context, at::Tensor* gradient, at::Tensor** gradients);
typedef void (*grimace_drop)(void* context);
typedef void (*grimace_body)(void* context, size_t index);

}  // extern "C"

namespace {

// A node of the autograd graph that calls back into Rust; it owns `context`.
struct RustNode : torch::autograd::Node {
  RustNode(std::string title, void* context, grimace_backward backward, grimace_drop drop, size_t inputs)
      : title(std::move(title)), context(context), backward(backward), drop(drop), inputs(inputs) {}

  ~RustNode() override { release_variables(); }

  // After a backward pass autograd lets go of what was kept for it; so do we.
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
    TORCH_CHECK(context != nullptr, "a second backward pass through ", title, ": what it needs was freed after the first");
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

// Makes `output` (fresh, without history) the result of a function of `inputs`. Takes over `context` in every case.
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

// Calls `body` with every index below `count`, on libtorch's threads.
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
