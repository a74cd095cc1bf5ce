// The simulated cuBLASLt. Its descriptors are empty, and its heuristic finds one algorithm that needs no workspace.

#include <cstring>

#include "sim.h"

namespace {

constexpr int EXECUTION_FAILED = 13;  // CUBLAS_STATUS_EXECUTION_FAILED
// sizeof(cublasLtMatmulHeuristicResult_t): algorithm 64, workspace 8, status 4, waves 4, reserved 16.
constexpr size_t HEURISTIC_RESULT = 96;

int create(char** descriptor) {
  *descriptor = new char;
  return 0;
}

int destroy(char* descriptor) {
  delete descriptor;
  return 0;
}

}  // namespace

API int cublasLtMatmulDescCreate(char** descriptor, int, int) { return create(descriptor); }

API int cublasLtMatmulDescDestroy(char* descriptor) { return destroy(descriptor); }

API int cublasLtMatmulDescSetAttribute() { return 0; }

API int cublasLtMatrixLayoutCreate(char** layout, int, uint64_t, uint64_t, int64_t) { return create(layout); }

API int cublasLtMatrixLayoutDestroy(char* layout) { return destroy(layout); }

API int cublasLtMatrixLayoutSetAttribute() { return 0; }

API int cublasLtMatmulPreferenceCreate(char** preference) { return create(preference); }

API int cublasLtMatmulPreferenceDestroy(char* preference) { return destroy(preference); }

API int cublasLtMatmulPreferenceSetAttribute() { return 0; }

API int cublasLtMatmulAlgoGetHeuristic(void*, void*, void*, void*, void*, void*, void*, int asked, void* results,
                                       int* found) {
  memset(results, 0, HEURISTIC_RESULT * static_cast<size_t>(asked));
  *found = 1;
  return 0;
}

API int cublasLtMatmul(void*, void*, const void*, const void*, void*, const void*, void*, const void*, const void*,
                       void*, void*, void*, const void*, void*, size_t, void* stream) {
  return sim_work(stream, "cublasLtMatmul") == 0 ? 0 : EXECUTION_FAILED;
}
