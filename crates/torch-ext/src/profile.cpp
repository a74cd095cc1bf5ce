// Self time of each of libtorch's operations, over all threads.

#include <atomic>
#include <chrono>
#include <cstring>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include <ATen/record_function.h>

#include "guarded.h"

namespace {

using Clock = std::chrono::steady_clock;

struct Total {
  double seconds = 0;
  uint64_t calls = 0;
};

struct Open {
  std::string name;
  Clock::time_point begin;
  double children = 0;
};

std::mutex totals_mutex;
std::map<std::string, Total> totals;
thread_local std::vector<Open> running;
std::atomic<at::CallbackHandle> handle{0};

void enter(std::string name) { running.push_back({std::move(name), Clock::now()}); }

void leave() {
  // Empty if the profile was started during an operation.
  if (running.empty()) {
    return;
  }
  Open done = std::move(running.back());
  running.pop_back();
  const double seconds = std::chrono::duration<double>(Clock::now() - done.begin).count();
  if (!running.empty()) {
    running.back().children += seconds;
  }
  std::lock_guard<std::mutex> guard(totals_mutex);
  Total& total = totals[done.name];
  total.seconds += seconds - done.children;
  total.calls++;
}

}  // namespace

extern "C" {

char* grimace_profile_start() {
  return guarded([] {
    if (handle != 0) {
      at::removeCallback(handle);
    }
    {
      std::lock_guard<std::mutex> guard(totals_mutex);
      totals.clear();
    }
    running.clear();
    handle = at::addGlobalCallback(
        at::RecordFunctionCallback(
            [](const at::RecordFunction& function) -> std::unique_ptr<at::ObserverContext> {
              enter(function.name());
              return nullptr;
            },
            [](const at::RecordFunction&, at::ObserverContext*) { leave(); })
            .scopes({at::RecordScope::FUNCTION, at::RecordScope::BACKWARD_FUNCTION}));
  });
}

// Stops profiling and calls `visit` with each operation's name, number of calls and self time in seconds.
char* grimace_profile_stop(void* context, void (*visit)(void*, const char*, uint64_t, double)) {
  return guarded([&] {
    if (handle != 0) {
      at::removeCallback(handle);
      handle = 0;
    }
    std::lock_guard<std::mutex> guard(totals_mutex);
    for (const auto& [name, total] : totals) {
      visit(context, name.c_str(), total.calls, total.seconds);
    }
  });
}

// Enters a custom operation if profiling is on. Returns whether grimace_profile_leave must be called.
bool grimace_profile_enter(const char* name) {
  return handle != 0 && guarded([&] { enter(name); }) == nullptr;
}

void grimace_profile_leave() { leave(); }

}  // extern "C"
