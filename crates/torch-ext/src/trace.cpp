// Tracing: a forward function, recorded as a TorchScript module or as a list of operations.

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include <torch/csrc/jit/frontend/tracer.h>
#include <torch/csrc/jit/passes/dead_code_elimination.h>
#include <torch/script.h>

#include "guarded.h"

extern "C" {

// Computes `*out` (a new tensor that the caller of the callback owns) from `in` (borrowed). Returns nonzero on failure.
typedef int (*grimace_forward)(void* context, at::Tensor* in, at::Tensor** out);

// An operand of a traced operation.
struct grimace_operand {
  // 0: none, 1: the value `integer`, 2: the tensor `text`, 3: `integer`, 4: `number`, 5: bool `integer`, 6: `list` of
  // `count` integers, 7: `text`
  int32_t kind;
  int64_t integer;
  double number;
  const char* text;
  const int64_t* list;
  size_t count;
};

// Receives an operation `name` ("aten::relu") with its operands, and the number and the shape of its output value.
typedef void (*grimace_visit)(void* context, const char* name, const grimace_operand* operands, size_t count, int64_t output,
                              const int64_t* shape, size_t dimensions);

}  // extern "C"

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


// Tensors by name, and a forward function that reads them.
struct Function {
  const char* const* names;
  at::Tensor* const* tensors;
  const bool* buffers;
  size_t count;
  at::Tensor* example;
  void* context;
  grimace_forward forward;
};

const std::string TYPE_NAME = "__torch__.grimace";

// Creates the module of `function` in `unit`, and records the graph of its forward pass.
std::pair<torch::jit::Module, std::shared_ptr<torch::jit::Graph>> trace(const Function& function,
                                                                        std::shared_ptr<torch::jit::CompilationUnit> unit) {
  torch::jit::Module module = new_module(TYPE_NAME, std::move(unit));
  for (size_t i = 0; i < function.count; i++) {
    register_tensor(module, function.names[i], *function.tensors[i], function.buffers[i], TYPE_NAME);
  }
  auto body = [&](torch::jit::Stack inputs) -> torch::jit::Stack {
    at::Tensor in = inputs.at(0).toTensor();
    at::Tensor* out = nullptr;
    if (function.forward(function.context, &in, &out) != 0 || out == nullptr) {
      throw std::runtime_error("the forward function failed during tracing");
    }
    at::Tensor result = std::move(*out);
    delete out;
    return {result};
  };
  auto no_names = [](const at::Tensor&) { return std::string(); };
  // With `self` given, the tracer reads parameters from the module's attributes instead of recording constants.
  auto traced = torch::jit::tracer::trace({*function.example}, body, no_names, /*strict=*/true, /*force_outplace=*/false,
                                          &module, {"pixels"});
  return {module, traced.first->graph};
}

// The operands of a graph's operations.
class Operands {
 public:
  // Notes what a node other than an operation yields: an attribute of the module, a constant, a list.
  void note(torch::jit::Node* node) {
    using namespace torch::jit;
    if (node->kind() == prim::GetAttr) {
      const auto parent = paths_.find(node->input());
      const std::string prefix = parent == paths_.end() ? "" : parent->second + ".";
      paths_[node->output()] = prefix + node->s(attr::name);
    } else if (node->kind() == prim::ListConstruct) {
      auto& list = lists_[node->output()];
      for (auto* input : node->inputs()) {
        const auto constant = toIValue(input);
        if (!constant || !constant->isInt()) {
          throw std::runtime_error("a list of other values than constant integers");
        }
        list.push_back(constant->toInt());
      }
    } else if (node->kind() != prim::Constant) {
      throw std::runtime_error(std::string("an operation without tensors: ") + node->kind().toQualString());
    }
  }

  grimace_operand get(torch::jit::Value* value) {
    using namespace torch::jit;
    grimace_operand operand{};
    if (const auto path = paths_.find(value); path != paths_.end()) {
      operand.kind = 2;
      operand.text = path->second.c_str();
    } else if (const auto list = lists_.find(value); list != lists_.end()) {
      operand.kind = 6;
      operand.list = list->second.data();
      operand.count = list->second.size();
    } else if (auto constant = toIValue(value)) {
      constant_operand(*constant, operand);
    } else {
      operand.kind = 1;
      operand.integer = static_cast<int64_t>(value->unique());
    }
    return operand;
  }

 private:
  void constant_operand(const c10::IValue& value, grimace_operand& operand) {
    if (value.isNone()) {
      operand.kind = 0;
    } else if (value.isBool()) {
      operand.kind = 5;
      operand.integer = value.toBool();
    } else if (value.isInt()) {
      operand.kind = 3;
      operand.integer = value.toInt();
    } else if (value.isDouble()) {
      operand.kind = 4;
      operand.number = value.toDouble();
    } else if (value.isTensor() && value.toTensor().numel() == 1) {
      operand.kind = 4;
      operand.number = value.toTensor().item<double>();
    } else if (value.isString()) {
      texts_.push_back(std::make_unique<std::string>(value.toStringRef()));
      operand.kind = 7;
      operand.text = texts_.back()->c_str();
    } else if (value.isIntList()) {
      constant_lists_.push_back(std::make_unique<std::vector<int64_t>>(value.toIntVector()));
      operand.kind = 6;
      operand.list = constant_lists_.back()->data();
      operand.count = constant_lists_.back()->size();
    } else {
      throw std::runtime_error("a constant that is not a number: " + value.tagKind());
    }
  }

  std::unordered_map<torch::jit::Value*, std::string> paths_;
  std::unordered_map<torch::jit::Value*, std::vector<int64_t>> lists_;
  std::vector<std::unique_ptr<std::string>> texts_;
  std::vector<std::unique_ptr<std::vector<int64_t>>> constant_lists_;
};

}  // namespace

extern "C" {

char* grimace_trace_module(const char* path, const char* const* names, at::Tensor* const* tensors, const bool* buffers,
                           size_t count, at::Tensor* example, void* context, grimace_forward forward,
                           const char* const* extra_names, const char* const* extra_texts, size_t extra_count) {
  return guarded([&] {
    torch::NoGradGuard no_grad;
    auto unit = std::make_shared<torch::jit::CompilationUnit>();
    auto [module, graph] = trace({names, tensors, buffers, count, example, context, forward}, unit);
    auto* function = unit->create_function(c10::QualifiedName(c10::QualifiedName(TYPE_NAME), "forward"), graph);
    module.type()->addMethod(function);
    module.eval();
    torch::jit::ExtraFilesMap extra;
    for (size_t i = 0; i < extra_count; i++) {
      extra[extra_names[i]] = extra_texts[i];
    }
    module.save(path, extra);
  });
}

// Visits the operations in order. The input is value 0; the last visit, without a name, has the result as its output.
char* grimace_trace_operations(const char* const* names, at::Tensor* const* tensors, const bool* buffers, size_t count,
                               at::Tensor* example, void* context, grimace_forward forward, void* visitor,
                               grimace_visit visit) {
  return guarded([&] {
    torch::NoGradGuard no_grad;
    auto unit = std::make_shared<torch::jit::CompilationUnit>();
    auto [module, graph] = trace({names, tensors, buffers, count, example, context, forward}, unit);
    torch::jit::EliminateDeadCode(graph);
    // Input 0 is the module.
    const auto pixels = static_cast<int64_t>(graph->inputs().at(1)->unique());
    const auto number = [&](int64_t unique) { return unique == pixels ? 0 : unique + 1; };
    const auto emit = [&](const char* name, const std::vector<grimace_operand>& operands, torch::jit::Value* output) {
      const auto type = output->type()->cast<c10::TensorType>();
      const auto shape = type ? type->sizes().concrete_sizes().value_or(std::vector<int64_t>()) : std::vector<int64_t>();
      visit(visitor, name, operands.data(), operands.size(), number(static_cast<int64_t>(output->unique())), shape.data(),
            shape.size());
    };
    Operands known;
    for (auto* node : graph->nodes()) {
      if (!node->kind().is_aten() || node->outputs().size() != 1) {
        known.note(node);
        continue;
      }
      std::vector<grimace_operand> operands;
      for (auto* input : node->inputs()) {
        auto operand = known.get(input);
        if (operand.kind == 1) operand.integer = number(operand.integer);
        operands.push_back(operand);
      }
      emit(node->kind().toQualString(), operands, node->output());
    }
    emit("", {}, graph->outputs().at(0));
  });
}

}  // extern "C"
