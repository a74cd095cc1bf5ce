// Memory of the simulated devices: one range of host addresses, an allocator for tensors, and what graphs hold of it.

#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <vector>

#include <c10/core/Allocator.h>
#include <c10/core/Device.h>

namespace sim {

struct Pool;

struct Block {
  char* data;
  size_t size;
  c10::DeviceIndex device;
  // Tells a block from a later one at the same address.
  uint64_t serial;
  // The graph during whose capture this was allocated, or null.
  Pool* pool = nullptr;
  // How many graphs use this block, which was there before their capture.
  int pins = 0;
  // No tensor has this memory any more.
  bool released = false;
};

// What a graph holds of the device's memory. Blocks that were allocated during its capture may be used again within the
// capture, as the replay runs in the same order, but by nobody else until the graph goes.
struct Pool {
  std::set<Block*> blocks, pinned;
  std::multimap<size_t, Block*> kept;
};

// The bytes of all blocks of a device.
struct Snapshot {
  struct Saved {
    char* data;
    uint64_t serial;
    std::vector<char> bytes;
  };
  std::vector<Saved> blocks;
};

c10::Allocator* device_allocator();

// Keeps the block that begins at `data` for the graph that owns `pool`.
void pin(Pool& pool, const void* data);
// Whether the graph uses memory that was there before its capture and that the program has freed since.
bool has_dangling(const Pool& pool);
// Writes NaN into what was allocated for the graph.
void invalidate(const Pool& pool);
// Gives back what only the graph held.
void drop(Pool& pool);

Snapshot take_snapshot(c10::DeviceIndex device);
void restore(const Snapshot& snapshot);

// By device.
std::vector<int64_t> used_bytes();
std::vector<int64_t> peak_bytes();
// CUDA_SIM_MEMORY; 0 is no limit.
int64_t memory_limit();

}  // namespace sim
