#include "counts.h"

#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>
#include <set>
#include <sstream>
#include <vector>

#include "memory.h"

namespace sim {

int64_t env_number(const char* name, int64_t otherwise) {
  const char* text = getenv(name);
  return text == nullptr || *text == 0 ? otherwise : atoll(text);
}

namespace {

using Clock = std::chrono::steady_clock;

// A long run has many segments: names are kept for the first and the last of them, numbers for all.
constexpr size_t FIRST_NAMED = 40;
constexpr size_t LAST_NAMED = 10;

struct Segment {
  int64_t launches = 0, captured = 0, syncs = 0, copies_up = 0, copies_down = 0;
  int64_t bytes_up = 0, bytes_down = 0, allocations = 0;
  Clock::time_point start = Clock::now();
  std::map<std::string, int64_t> names, sync_names;
};

struct Counts {
  std::mutex mutex;
  std::vector<Segment> segments{1};
  std::set<std::string> complaints;
};

// Never destroyed: threads may still use the device while the process ends.
Counts& counts() {
  static Counts* all = new Counts;
  return *all;
}

template <typename F>
void update(F&& body) {
  Counts& all = counts();
  std::lock_guard<std::mutex> lock(all.mutex);
  body(all.segments.back());
}

std::string quoted(const std::string& text) {
  std::string result = "\"";
  for (const unsigned char c : text) {
    if (c == '"' || c == '\\') {
      result += '\\';
      result += static_cast<char>(c);
    } else if (c < 0x20) {
      char code[8];
      snprintf(code, sizeof code, "\\u%04x", c);
      result += code;
    } else {
      result += static_cast<char>(c);
    }
  }
  return result + "\"";
}

// Writes `items` with commas between them; `show` writes one of them.
template <typename Items, typename F>
void listed(std::ostream& out, char open, char close, const Items& items, F&& show) {
  out << open;
  bool first = true;
  for (const auto& item : items) {
    if (!first) {
      out << ',';
    }
    first = false;
    show(item);
  }
  out << close;
}

void write_names(std::ostream& out, const std::map<std::string, int64_t>& names) {
  listed(out, '{', '}', names, [&](const auto& entry) { out << quoted(entry.first) << ':' << entry.second; });
}

void write_segment(std::ostream& out, const Segment& segment, Clock::time_point end) {
  out << "{\"launches\":" << segment.launches << ",\"captured\":" << segment.captured << ",\"syncs\":" << segment.syncs
      << ",\"copies_up\":" << segment.copies_up << ",\"copies_down\":" << segment.copies_down
      << ",\"bytes_up\":" << segment.bytes_up << ",\"bytes_down\":" << segment.bytes_down
      << ",\"allocations\":" << segment.allocations
      << ",\"seconds\":" << std::chrono::duration<double>(end - segment.start).count() << ",\"names\":";
  write_names(out, segment.names);
  out << ",\"sync_names\":";
  write_names(out, segment.sync_names);
  out << '}';
}

std::string report() {
  Counts& all = counts();
  std::lock_guard<std::mutex> lock(all.mutex);
  const Clock::time_point now = Clock::now();
  std::ostringstream out;
  out << "{\"device\":\"a\",\"segments\":[";
  for (size_t i = 0; i < all.segments.size(); i++) {
    out << (i == 0 ? "\n" : ",\n");
    write_segment(out, all.segments[i], i + 1 < all.segments.size() ? all.segments[i + 1].start : now);
  }
  out << "],\n\"complaints\":";
  listed(out, '[', ']', all.complaints, [&](const std::string& text) { out << quoted(text); });
  out << ",\n\"peak_bytes\":";
  listed(out, '[', ']', peak_bytes(), [&](int64_t bytes) { out << bytes; });
  out << ",\"used_bytes\":";
  listed(out, '[', ']', used_bytes(), [&](int64_t bytes) { out << bytes; });
  out << "}\n";
  return out.str();
}

void write_report() {
  const char* path = getenv("CUDA_SIM_REPORT");
  if (path == nullptr || *path == 0) {
    return;
  }
  std::string name = path;
  if (const auto place = name.find("%p"); place != std::string::npos) {
    name.replace(place, 2, std::to_string(getpid()));
  }
  FILE* file = fopen(name.c_str(), "w");
  if (file == nullptr) {
    perror(name.c_str());
    return;
  }
  const std::string text = report();
  fwrite(text.data(), 1, text.size(), file);
  fclose(file);
}

// The first segment starts when the library is opened.
const bool report_at_exit = [] {
  counts();
  return atexit(&write_report) == 0;
}();

}  // namespace

void begin_segment() {
  Counts& all = counts();
  std::lock_guard<std::mutex> lock(all.mutex);
  all.segments.emplace_back();
  if (all.segments.size() > FIRST_NAMED + LAST_NAMED) {
    Segment& old = all.segments[all.segments.size() - LAST_NAMED - 1];
    old.names.clear();
    old.sync_names.clear();
  }
}

void count_launch(const std::string& name) {
  update([&](Segment& segment) {
    segment.launches++;
    segment.names[name]++;
  });
}

void count_sync(const std::string& reason) {
  update([&](Segment& segment) {
    segment.syncs++;
    segment.sync_names[reason]++;
  });
}

void count_copy(bool to_device, size_t bytes) {
  update([&](Segment& segment) {
    (to_device ? segment.copies_up : segment.copies_down)++;
    (to_device ? segment.bytes_up : segment.bytes_down) += static_cast<int64_t>(bytes);
  });
}

void count_allocation() {
  update([](Segment& segment) { segment.allocations++; });
}

void count_captured() {
  update([](Segment& segment) { segment.captured++; });
}

void complain(const std::string& what) {
  Counts& all = counts();
  std::lock_guard<std::mutex> lock(all.mutex);
  all.complaints.insert(what);
}

}  // namespace sim
