#include "memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <mutex>

#include <c10/util/Exception.h>

#include "counts.h"
#include "device.h"
#include "graph.h"

namespace sim {

namespace {

constexpr size_t ARENA = size_t(64) << 30;
constexpr size_t GRANULARITY = 4096;
// All bits set are NaN in every floating-point format.
constexpr int NOT_WRITTEN = 0xff;

// One address range for all devices, reserved and never given back. Freed blocks are kept by size, as CUDA's caching
// allocator does. Never destroyed: tensors may be freed while the process ends.
struct Arena {
  std::mutex mutex;
  char* base = nullptr;
  size_t top = 0;
  uint64_t serial = 0;
  std::multimap<size_t, char*> kept;
  std::map<const void*, Block*> blocks;
  int64_t used[MAX_DEVICES] = {};
  int64_t peak[MAX_DEVICES] = {};

  Arena() {
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    void* range = mmap(nullptr, ARENA, PROT_READ | PROT_WRITE, flags, -1, 0);
    TORCH_CHECK(range != MAP_FAILED, "the simulated device's address range cannot be reserved");
    base = static_cast<char*>(range);
  }

  // The caller holds the mutex.
  Block* make(size_t size, c10::DeviceIndex device) {
    char* data = nullptr;
    if (const auto found = kept.find(size); found != kept.end()) {
      data = found->second;
      kept.erase(found);
    } else {
      TORCH_CHECK(top + size <= ARENA, "the simulated device's address range is used up");
      data = base + top;
      top += size;
    }
    Block* block = new Block{data, size, device, ++serial};
    blocks.emplace(data, block);
    used[device] += static_cast<int64_t>(size);
    peak[device] = std::max(peak[device], used[device]);
    return block;
  }

  // The caller holds the mutex.
  void recycle(Block* block) {
    used[block->device] -= static_cast<int64_t>(block->size);
    blocks.erase(block->data);
    kept.emplace(block->size, block->data);
    delete block;
  }
};

Arena& arena() {
  static Arena* all = new Arena;
  return *all;
}

void release(void* context) {
  Block* block = static_cast<Block*>(context);
  std::lock_guard<std::mutex> lock(arena().mutex);
  block->released = true;
  if (block->pool != nullptr) {
    block->pool->kept.emplace(block->size, block);
  } else if (block->pins == 0) {
    arena().recycle(block);
  }
}

// The words of c10/cuda/CUDACachingAllocator.cpp.
void check_limit(size_t wanted, size_t size, c10::DeviceIndex device, int64_t used) {
  const int64_t limit = memory_limit();
  if (limit > 0 && used + static_cast<int64_t>(size) > limit) {
    TORCH_CHECK_WITH(OutOfMemoryError, false, "CUDA out of memory. Tried to allocate ", wanted >> 20, ".00 MiB. GPU ",
                     static_cast<int>(device), " has a total capacity of ", limit >> 20, ".00 MiB of which ",
                     (limit - used) >> 20, ".00 MiB is free. Including non-PyTorch memory, this process has ",
                     used >> 20, ".00 MiB memory in use.");
  }
}

Block* take(size_t wanted, c10::DeviceIndex device) {
  const size_t size = (wanted + GRANULARITY - 1) / GRANULARITY * GRANULARITY;
  Pool* pool = capture_pool(device);
  std::lock_guard<std::mutex> lock(arena().mutex);
  if (pool != nullptr) {
    if (const auto found = pool->kept.find(size); found != pool->kept.end()) {
      Block* block = found->second;
      pool->kept.erase(found);
      block->released = false;
      return block;
    }
  }
  check_limit(wanted, size, device, arena().used[device]);
  Block* block = arena().make(size, device);
  if (pool != nullptr) {
    block->pool = pool;
    pool->blocks.insert(block);
  }
  return block;
}

struct DeviceAllocator final : c10::Allocator {
  c10::DataPtr allocate(size_t bytes) override {
    const c10::Device device(c10::DeviceType::CUDA, current_device);
    if (bytes == 0) {
      return {nullptr, nullptr, &c10::detail::deleteNothing, device};
    }
    Block* block = take(bytes, device.index());
    memset(block->data, NOT_WRITTEN, block->size);
    count_allocation();
    return {block->data, block, &release, device};
  }

  // Null: the deleter takes the block, not the address.
  c10::DeleterFnPtr raw_deleter() const override { return nullptr; }

  void copy_data(void* to, const void* from, std::size_t bytes) const override { memcpy(to, from, bytes); }
};

DeviceAllocator allocator;

const bool registered = [] {
  c10::SetAllocator(c10::DeviceType::CUDA, &allocator, 100);
  return true;
}();

}  // namespace

c10::Allocator* device_allocator() { return &allocator; }

void pin(Pool& pool, const void* data) {
  std::lock_guard<std::mutex> lock(arena().mutex);
  const auto found = arena().blocks.find(data);
  if (found != arena().blocks.end() && found->second->pool != &pool && pool.pinned.insert(found->second).second) {
    found->second->pins++;
  }
}

bool has_dangling(const Pool& pool) {
  std::lock_guard<std::mutex> lock(arena().mutex);
  return std::any_of(pool.pinned.begin(), pool.pinned.end(), [](const Block* block) { return block->released; });
}

void invalidate(const Pool& pool) {
  std::lock_guard<std::mutex> lock(arena().mutex);
  for (Block* block : pool.blocks) {
    memset(block->data, NOT_WRITTEN, block->size);
  }
}

void drop(Pool& pool) {
  std::lock_guard<std::mutex> lock(arena().mutex);
  for (Block* block : pool.blocks) {
    block->pool = nullptr;
    if (block->released && block->pins == 0) {
      arena().recycle(block);
    }
  }
  for (Block* block : pool.pinned) {
    block->pins--;
    if (block->released && block->pins == 0 && block->pool == nullptr) {
      arena().recycle(block);
    }
  }
  pool = Pool();
}

Snapshot take_snapshot(c10::DeviceIndex device) {
  std::lock_guard<std::mutex> lock(arena().mutex);
  Snapshot snapshot;
  for (const auto& [data, block] : arena().blocks) {
    if (block->device == device) {
      snapshot.blocks.push_back({block->data, block->serial, {block->data, block->data + block->size}});
    }
  }
  return snapshot;
}

void restore(const Snapshot& snapshot) {
  std::lock_guard<std::mutex> lock(arena().mutex);
  for (const auto& saved : snapshot.blocks) {
    const auto found = arena().blocks.find(saved.data);
    if (found != arena().blocks.end() && found->second->serial == saved.serial) {
      memcpy(saved.data, saved.bytes.data(), saved.bytes.size());
    }
  }
}

std::vector<int64_t> used_bytes() {
  std::lock_guard<std::mutex> lock(arena().mutex);
  return {arena().used, arena().used + device_count()};
}

std::vector<int64_t> peak_bytes() {
  std::lock_guard<std::mutex> lock(arena().mutex);
  return {arena().peak, arena().peak + device_count()};
}

int64_t memory_limit() { return env_number("CUDA_SIM_MEMORY", 0); }

}  // namespace sim
