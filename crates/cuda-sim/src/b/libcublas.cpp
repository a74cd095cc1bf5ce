// The simulated cuBLAS: what libtorch's dense layers and convolutions call. Everything else is a generated stub.

#include "sim.h"

namespace {

constexpr int EXECUTION_FAILED = 13;  // CUBLAS_STATUS_EXECUTION_FAILED
constexpr int ALLOC_FAILED = 3;       // CUBLAS_STATUS_ALLOC_FAILED

struct Handle {
  void* stream = nullptr;
  int math_mode = 0;
  int pointer_mode = 0;
};

}  // namespace

// All take the handle first, and their other arguments do not matter.
#define WORK(function) \
  API int function(Handle* handle) { return sim_work(handle->stream, #function) == 0 ? 0 : EXECUTION_FAILED; }

WORK(cublasSgemm_v2)
WORK(cublasDgemm_v2)
WORK(cublasSgemmEx)
WORK(cublasGemmEx)
WORK(cublasSgemmBatched)
WORK(cublasDgemmBatched)
WORK(cublasSgemmStridedBatched)
WORK(cublasDgemmStridedBatched)
WORK(cublasGemmStridedBatchedEx)
WORK(cublasSgemv_v2)
WORK(cublasDgemv_v2)
WORK(cublasSdot_v2)
WORK(cublasDdot_v2)
WORK(cublasDotEx)

// It allocates memory on the device.
API int cublasCreate_v2(Handle** handle) {
  if (sim_unsafe() != 0) {
    return ALLOC_FAILED;
  }
  *handle = new Handle;
  return 0;
}

API int cublasDestroy_v2(Handle* handle) {
  delete handle;
  return 0;
}

API int cublasSetStream_v2(Handle* handle, void* stream) {
  handle->stream = stream;
  return 0;
}

API int cublasSetWorkspace_v2(Handle*, void*, size_t) { return 0; }

API int cublasGetMathMode(Handle* handle, int* mode) {
  *mode = handle->math_mode;
  return 0;
}

API int cublasSetMathMode(Handle* handle, int mode) {
  handle->math_mode = mode;
  return 0;
}

API int cublasGetPointerMode_v2(Handle* handle, int* mode) {
  *mode = handle->pointer_mode;
  return 0;
}

API int cublasSetPointerMode_v2(Handle* handle, int mode) {
  handle->pointer_mode = mode;
  return 0;
}
