// Time in each of libtorch's operations, of all threads, without what they call in turn.

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
  double in_children = 0;
};

std::mutex guard_of_totals;
std::map<std::string, Total> totals;
thread_local std::vector<Open> running;
std::atomic<at::CallbackHandle> handle{0};

void enter(std::string name) { running.push_back({std::move(name), Clock::now()}); }

void leave() {
  // Empty where the record began in the middle of an operation.
  if (running.empty()) {
    return;
  }
  Open done = std::move(running.back());
  running.pop_back();
  const double seconds = std::chrono::duration<double>(Clock::now() - done.begin).count();
  if (!running.empty()) {
    running.back().in_children += seconds;
  }
  std::lock_guard<std::mutex> guard(guard_of_totals);
  Total& total = totals[done.name];
  total.seconds += seconds - done.in_children;
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
      std::lock_guard<std::mutex> guard(guard_of_totals);
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

// Ends it and calls `visit` with each operation's name, calls and own seconds.
char* grimace_profile_stop(void* context, void (*visit)(void*, const char*, uint64_t, double)) {
  return guarded([&] {
    if (handle != 0) {
      at::removeCallback(handle);
      handle = 0;
    }
    std::lock_guard<std::mutex> guard(guard_of_totals);
    for (const auto& [name, total] : totals) {
      visit(context, name.c_str(), total.calls, total.seconds);
    }
  });
}

// An operation of our own begins, if a record is made: then it is to be ended.
bool grimace_profile_enter(const char* name) {
  return handle != 0 && guarded([&] { enter(name); }) == nullptr;
}

void grimace_profile_leave() { leave(); }

}  // extern "C"
