// What the simulated libraries share. The one for libcudart keeps all counts; the others call it.
#pragma once

#include <cstddef>
#include <cstdint>

#define API extern "C" __attribute__((visibility("default")))

// Names must live as long as the process: they are counted by address.

// Work for the device on a stream: a launch, or a node of the graph that the stream captures. Returns a cudaError_t.
API int sim_work(void* stream, const char* name);

// A call that may not be made while a stream is captured, such as one that allocates. Returns a cudaError_t.
API int sim_unsafe();

// A call of a function that nobody wrote, which does nothing and answers success. It is reported, since a result that
// the caller expected is missing.
API int sim_stub(const char* name);

// Begins a new segment of the counts.
API void sim_step();
