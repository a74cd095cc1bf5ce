// The simulated driver: libtorch asks it little beside what it asks the runtime.

#include "sim.h"

API int cuDevicePrimaryCtxGetState(int, unsigned* flags, int* active) {
  *flags = 0;
  *active = 1;
  return 0;
}

API int cuCtxGetCurrent(void** context) {
  static int only;
  *context = &only;
  return 0;
}

API int cuGetErrorString(int, const char** text) {
  *text = "error of the simulated driver";
  return 0;
}

// Launches of kernels that libtorch compiles at run time.
API int cuLaunchKernel(void*, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void* stream) {
  return sim_work(stream, "cuLaunchKernel");
}
