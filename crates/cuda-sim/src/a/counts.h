// What the simulated device was asked to do, by segment of the program's run, and the report that is written at exit.

#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace sim {

// The number in an environment variable, or `otherwise` where it is unset or empty.
int64_t env_number(const char* name, int64_t otherwise);

// A new segment begins whenever the default generator of device 0 is seeded, which the program does once a step.
void begin_segment();

void count_launch(const std::string& name);
void count_sync(const std::string& reason);
void count_copy(bool to_device, size_t bytes);
void count_allocation();

// An operation that was recorded into a graph. The device runs nothing then, so this is no launch.
void count_captured();

// Notes what works here but would be slow or wrong on a real device. The same complaint is reported once.
void complain(const std::string& what);

}  // namespace sim
