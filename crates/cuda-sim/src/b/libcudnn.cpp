// The simulated cuDNN. Its graph interface, through which libtorch runs convolutions, answers every question with one
// engine that needs no workspace.

#include <cstring>
#include <map>
#include <vector>

#include "sim.h"

namespace {

constexpr int NOT_INITIALIZED = 1001;  // CUDNN_STATUS_NOT_INITIALIZED
constexpr int EXECUTION_FAILED = 5000;  // CUDNN_STATUS_EXECUTION_FAILED

struct Handle {
  void* stream = nullptr;
};

// Types of attributes (cudnnBackendAttributeType_t) that need care.
constexpr int BOOLEAN = 2;
constexpr int NUMERICAL_NOTE = 11;
constexpr int BEHAVIOR_NOTE = 19;
constexpr int DESCRIPTOR = 15;

size_t size_of(int type) {
  switch (type) {
    case BOOLEAN: return 1;
    // A handle, an int64, a double, a pointer, a descriptor.
    case 0: case 3: case 5: case 6: case DESCRIPTOR: return 8;
    default: return 4;
  }
}

// Remembers what it was told, so that it can say it again.
struct Descriptor {
  std::map<int, std::vector<int64_t>> attributes;
};

// A workspace, unless it was told of another, has no bytes; an engine has no notes.
int get_attribute(const Descriptor& own, int name, int type, int64_t room, int64_t* count, char* values) {
  const size_t size = size_of(type);
  const auto found = own.attributes.find(name);
  std::vector<int64_t> answer;
  if (found != own.attributes.end()) {
    answer = found->second;
  } else if (type != NUMERICAL_NOTE && type != BEHAVIOR_NOTE) {
    answer = {0};
  }
  if (count != nullptr) {
    *count = static_cast<int64_t>(answer.size());
  }
  for (size_t i = 0; values != nullptr && i < answer.size() && static_cast<int64_t>(i) < room; i++) {
    memcpy(values + i * size, &answer[i], size);
  }
  return 0;
}

// Asked for descriptors, it fills in the one that the caller made: what a heuristic finds is for the graph that it was
// asked about.
int get_descriptor(const Descriptor& own, int64_t room, int64_t* count, Descriptor** values) {
  if (count != nullptr) {
    *count = 1;
  }
  if (room > 0 && values != nullptr && *values != nullptr) {
    (*values)->attributes.insert(own.attributes.begin(), own.attributes.end());
  }
  return 0;
}

}  // namespace

#define CREATE(function) \
  API int function(void** descriptor) { \
    *descriptor = new char[64](); \
    return 0; \
  }

CREATE(cudnnCreateTensorDescriptor)
CREATE(cudnnCreateFilterDescriptor)
CREATE(cudnnCreateConvolutionDescriptor)
CREATE(cudnnCreateActivationDescriptor)
CREATE(cudnnCreatePoolingDescriptor)
CREATE(cudnnCreateDropoutDescriptor)
CREATE(cudnnCreateSpatialTransformerDescriptor)

#define DONE(function) \
  API int function() { return 0; }

// The program keeps few of these descriptors, so they are not freed.
DONE(cudnnDestroyTensorDescriptor)
DONE(cudnnDestroyFilterDescriptor)
DONE(cudnnDestroyConvolutionDescriptor)
DONE(cudnnDestroyActivationDescriptor)
DONE(cudnnDestroyDropoutDescriptor)
DONE(cudnnDestroySpatialTransformerDescriptor)
DONE(cudnnSetTensorNdDescriptor)
DONE(cudnnSetFilterNdDescriptor)
DONE(cudnnSetConvolutionNdDescriptor)
DONE(cudnnSetConvolutionGroupCount)
DONE(cudnnSetConvolutionMathType)
DONE(cudnnSetActivationDescriptor)
DONE(cudnnSetPooling2dDescriptor)
DONE(cudnnSetSpatialTransformerNdDescriptor)
DONE(cudnnBackendFinalize)

// All take the handle first, and their other arguments do not matter.
#define WORK(function) \
  API int function(Handle* handle) { return sim_work(handle->stream, #function) == 0 ? 0 : EXECUTION_FAILED; }

WORK(cudnnBackendExecute)
WORK(cudnnBatchNormalizationForwardTrainingEx)
WORK(cudnnBatchNormalizationForwardInference)
WORK(cudnnBatchNormalizationBackwardEx)
WORK(cudnnConvolutionForward)
WORK(cudnnConvolutionBackwardData)
WORK(cudnnConvolutionBackwardFilter)
WORK(cudnnConvolutionBiasActivationForward)
WORK(cudnnPoolingForward)
WORK(cudnnSpatialTfGridGeneratorForward)
WORK(cudnnSpatialTfGridGeneratorBackward)
WORK(cudnnSpatialTfSamplerForward)
WORK(cudnnSpatialTfSamplerBackward)

// It allocates memory on the device.
API int cudnnCreate(Handle** handle) {
  if (sim_unsafe() != 0) {
    return NOT_INITIALIZED;
  }
  *handle = new Handle;
  return 0;
}

API int cudnnSetStream(Handle* handle, void* stream) {
  handle->stream = stream;
  return 0;
}

API int cudnnGetStream(Handle* handle, void** stream) {
  *stream = handle->stream;
  return 0;
}

// libtorch refuses a cuDNN that is older than the one that it was compiled with, 9.19.
API size_t cudnnGetVersion() { return 91900; }

API size_t cudnnGetCudartVersion() { return 13000; }

API int cudnnGetProperty(int part, int* value) {
  *value = part == 0 ? 9 : part == 1 ? 19 : 0;
  return 0;
}

API const char* cudnnGetErrorString(int) { return "error of the simulated cuDNN"; }

API void cudnnGetLastErrorString(char* text, size_t size) {
  if (size > 0) {
    *text = 0;
  }
}

API int cudnnGetBatchNormalizationForwardTrainingExWorkspaceSize(void*, int, int, void*, void*, void*, void*, void*,
                                                                 size_t* bytes) {
  *bytes = 0;
  return 0;
}

API int cudnnGetBatchNormalizationBackwardExWorkspaceSize(void*, int, int, void*, void*, void*, void*, void*, void*,
                                                          void*, size_t* bytes) {
  *bytes = 0;
  return 0;
}

API int cudnnGetBatchNormalizationTrainingExReserveSpaceSize(void*, int, int, void*, void*, size_t* bytes) {
  *bytes = 0;
  return 0;
}

API int cudnnBackendCreateDescriptor(int, Descriptor** descriptor) {
  *descriptor = new Descriptor;
  return 0;
}

// Descriptors point at each other in ways that only their caller knows, and there is one set for each shape.
API int cudnnBackendDestroyDescriptor(Descriptor*) { return 0; }

API int cudnnBackendSetAttribute(Descriptor* descriptor, int name, int type, int64_t count, const char* values) {
  std::vector<int64_t> own;
  for (int64_t i = 0; i < count; i++) {
    int64_t value = 0;
    memcpy(&value, values + static_cast<size_t>(i) * size_of(type), size_of(type));
    own.push_back(value);
  }
  descriptor->attributes[name] = own;
  return 0;
}

API int cudnnBackendGetAttribute(Descriptor* descriptor, int name, int type, int64_t room, int64_t* count,
                                 void* values) {
  if (type == DESCRIPTOR) {
    return get_descriptor(*descriptor, room, count, static_cast<Descriptor**>(values));
  }
  return get_attribute(*descriptor, name, type, room, count, static_cast<char*>(values));
}
