// C++ half of torch-ext: version and settings of libtorch, TorchScript. No exception leaves this file:
// functions that can fail return nullptr, or a message allocated with strdup that the caller frees with grimace_free.

#ifdef __linux__
#include <malloc.h>
#endif

#include <atomic>
#include <climits>
#include <cstring>
#include <sstream>
#include <string>

#include <ATen/Version.h>
#include <torch/csrc/jit/frontend/tracer.h>
#include <torch/script.h>
#include <torch/version.h>

#include "guarded.h"

namespace {

// Creates a module of a new type, with the attribute `training` that every torch.nn.Module has.
torch::jit::Module new_module(const std::string& type_name, std::shared_ptr<torch::jit::CompilationUnit> unit) {
  torch::jit::Module module(c10::QualifiedName(type_name), std::move(unit));
  module.register_attribute("training", c10::BoolType::get(), true);
  return module;
}

// Registers `tensor` under a dotted name and creates the submodules of that name.
void register_tensor(torch::jit::Module module, const std::string& name, const at::Tensor& tensor, bool buffer,
                     const std::string& type_name) {
  const auto dot = name.find('.');
  if (dot == std::string::npos) {
    if (buffer) {
      module.register_buffer(name, tensor);
    } else {
      module.register_parameter(name, tensor, false);
    }
    return;
  }
  const auto head = name.substr(0, dot);
  const auto child_type = type_name + "_" + head;
  if (!module.hasattr(head)) {
    module.register_module(head, new_module(child_type, module._ivalue()->compilation_unit()));
  }
  register_tensor(module.attr(head).toModule(), name.substr(dot + 1), tensor, buffer, child_type);
}

}  // namespace

extern "C" {

// Computes `*out` (a new tensor that the caller of the callback owns) from `in` (borrowed). Returns nonzero on failure.
typedef int (*grimace_forward)(void* context, at::Tensor* in, at::Tensor** out);

void grimace_free(char* text) { free(text); }

const char* grimace_torch_version() { return TORCH_VERSION; }

char* grimace_cpu_capability() { return message(at::get_cpu_capability()); }

void grimace_keep_memory() {
#ifdef __GLIBC__
  mallopt(M_MMAP_MAX, 0);
  mallopt(M_TRIM_THRESHOLD, INT_MAX);
  mallopt(M_TOP_PAD, 64 << 20);
#endif
}

// Whether `tensor` is the only handle to its TensorImpl, and that the only one to its memory.
bool grimace_is_unique(const at::Tensor* tensor) {
  const bool unique = tensor->defined() && tensor->has_storage() && tensor->use_count() == 1 &&
                      tensor->storage().use_count() == 1;
  // What other threads wrote before they released their handles happens before what the caller does next.
  std::atomic_thread_fence(std::memory_order_acquire);
  return unique;
}

char* grimace_trace_module(const char* path, const char* const* names, at::Tensor* const* tensors, const bool* buffers,
                           size_t count, at::Tensor* example, void* context, grimace_forward forward,
                           const char* const* extra_names, const char* const* extra_texts, size_t extra_count) {
  return guarded([&] {
    torch::NoGradGuard no_grad;
    auto unit = std::make_shared<torch::jit::CompilationUnit>();
    const std::string type_name = "__torch__.grimace";
    torch::jit::Module module = new_module(type_name, unit);
    for (size_t i = 0; i < count; i++) {
      register_tensor(module, names[i], *tensors[i], buffers[i], type_name);
    }
    auto body = [&](torch::jit::Stack inputs) -> torch::jit::Stack {
      at::Tensor in = inputs.at(0).toTensor();
      at::Tensor* out = nullptr;
      if (forward(context, &in, &out) != 0 || out == nullptr) {
        throw std::runtime_error("the forward function failed during tracing");
      }
      at::Tensor result = std::move(*out);
      delete out;
      return {result};
    };
    auto no_names = [](const at::Tensor&) { return std::string(); };
    // With `self` given, the tracer reads parameters from the module's attributes instead of recording constants.
    auto traced = torch::jit::tracer::trace({*example}, body, no_names, /*strict=*/true, /*force_outplace=*/false, &module,
                                            {"pixels"});
    auto* function = unit->create_function(c10::QualifiedName(c10::QualifiedName(type_name), "forward"), traced.first->graph);
    module.type()->addMethod(function);
    module.eval();
    torch::jit::ExtraFilesMap extra;
    for (size_t i = 0; i < extra_count; i++) {
      extra[extra_names[i]] = extra_texts[i];
    }
    module.save(path, extra);
  });
}

}  // extern "C"
