// The little that cuda_runtime_api.h needs of nvcc's own header crt/host_defines.h, which comes in a package of its own
// (nvidia-cuda-crt): with it, the simulated libraries build from the headers that PyTorch's dependencies install.
#pragma once

#define CUDARTAPI
#define CUDARTAPI_CDECL
#define __align__(n) __attribute__((aligned(n)))
#define __builtin_align__(n) __align__(n)
#define __host__
#define __device__
#define __cudart_builtin__
#define __device_builtin__
#define __device_builtin_surface_type__
#define __device_builtin_texture_type__
