// C++ half of torch-ext: version and settings of libtorch. No exception leaves this file:
// functions that can fail return nullptr, or a message allocated with strdup that the caller frees with grimace_free.

#ifdef __linux__
#include <malloc.h>
#endif

#include <atomic>
#include <climits>
#include <cstring>
#include <string>

#include <ATen/ATen.h>
#include <ATen/Version.h>
#include <torch/version.h>

#include "guarded.h"

extern "C" {

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

}  // extern "C"
