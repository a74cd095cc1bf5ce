// Counts of what the device was asked to do, and their report.

#include <cxxabi.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>

#include "state.h"

namespace sim {
namespace {

// The names of these segments are reported; the others' are dropped, so that a long run does not pile them up.
constexpr size_t FIRST_NAMED = 40;
constexpr size_t LAST_NAMED = 10;

// These are never destroyed: other threads may still call in while the process ends.
std::vector<Segment>& segments() {
  static auto* all = new std::vector<Segment>(1);
  return *all;
}

std::vector<std::string>& failures() {
  static auto* all = new std::vector<std::string>;
  return *all;
}

Segment::Names& stubs() {
  static auto* all = new Segment::Names;
  return *all;
}

void finish(Segment& segment) {
  segment.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - segment.begin).count();
}

// Readable name of a kernel: without the namespaces that most have, and cut where templates get long.
std::string short_name(const char* name) {
  std::string text = demangled(name);
  if (text.rfind("void ", 0) == 0) {
    text.erase(0, 5);
  }
  for (const char* noise : {"(anonymous namespace)::", "at::native::", "at::cuda::", "c10::", "std::"}) {
    for (size_t at; (at = text.find(noise)) != std::string::npos;) {
      text.erase(at, strlen(noise));
    }
  }
  return text.size() > 230 ? text.substr(0, 230) + "..." : text;
}

std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      char code[8];
      snprintf(code, sizeof code, "\\u%04x", c);
      out += code;
    } else {
      out += c;
    }
  }
  return out + '"';
}

std::string object(const Segment::Names& names) {
  // Several kernels can have one short name.
  std::map<std::string, int64_t> sums;
  for (const auto& [name, count] : names) {
    sums[short_name(name)] += count;
  }
  std::string out = "{";
  for (const auto& [name, count] : sums) {
    out += (out.size() > 1 ? "," : "") + quoted(name) + ":" + std::to_string(count);
  }
  return out + "}";
}

std::string object(const Segment& segment, bool named) {
  std::string out = "{";
  const auto number = [&](const char* name, int64_t value) {
    out += quoted(name) + ":" + std::to_string(value) + ",";
  };
  number("launches", segment.launches);
  number("syncs", segment.syncs);
  number("copies_up", segment.copies_up);
  number("copies_down", segment.copies_down);
  number("bytes_up", segment.bytes_up);
  number("bytes_down", segment.bytes_down);
  number("allocations", segment.allocations);
  number("captured", segment.captured);
  number("replayed", segment.replayed);
  out += "\"seconds\":" + std::to_string(segment.seconds);
  if (named) {
    out += ",\"names\":" + object(segment.names) + ",\"sync_names\":" + object(segment.sync_names);
    out += ",\"captured_names\":" + object(segment.captured_names);
  }
  return out + "}";
}

std::string report() {
  std::lock_guard<std::mutex> lock(guard());
  std::vector<Segment>& all = segments();
  finish(all.back());
  std::string out = "{\"device\":\"b\",\"segments\":[";
  for (size_t i = 0; i < all.size(); i++) {
    out += (i > 0 ? ",\n" : "\n") + object(all[i], i < FIRST_NAMED || i + LAST_NAMED >= all.size());
  }
  out += "\n],\"failures\":[";
  for (size_t i = 0; i < failures().size(); i++) {
    out += (i > 0 ? "," : "") + quoted(failures()[i]);
  }
  out += "],\"stubs\":" + object(stubs());
  return out + ",\"peak_bytes\":" + std::to_string(peak_bytes()) + "}\n";
}

// Writes the report at the end of the process to the path in CUDA_SIM_REPORT, in which %p stands for the process id.
void write_report() {
  const char* wanted = getenv("CUDA_SIM_REPORT");
  if (wanted == nullptr || *wanted == 0) {
    return;
  }
  std::string path = wanted;
  if (const size_t at = path.find("%p"); at != std::string::npos) {
    path.replace(at, 2, std::to_string(getpid()));
  }
  FILE* file = fopen(path.c_str(), "w");
  if (file == nullptr) {
    fprintf(stderr, "cannot write the simulated device's report %s: %s\n", path.c_str(), strerror(errno));
    return;
  }
  const std::string text = report();
  fwrite(text.data(), 1, text.size(), file);
  fclose(file);
}

const int at_end = atexit(write_report);

}  // namespace

int64_t setting(const char* name, int64_t otherwise) {
  const char* text = getenv(name);
  return text == nullptr || *text == 0 ? otherwise : atoll(text);
}

std::mutex& guard() {
  static auto* mutex = new std::mutex;
  return *mutex;
}

Segment& segment() { return segments().back(); }

void note_failure(std::string text) { failures().push_back(std::move(text)); }

std::string demangled(const char* name) {
  int status = 0;
  char* text = abi::__cxa_demangle(name, nullptr, nullptr, &status);
  std::string out = status == 0 && text != nullptr ? text : name;
  free(text);
  return out;
}

}  // namespace sim

API void sim_step() {
  std::lock_guard<std::mutex> lock(sim::guard());
  std::vector<sim::Segment>& all = sim::segments();
  sim::finish(all.back());
  if (all.size() > sim::FIRST_NAMED + sim::LAST_NAMED) {
    sim::Segment& old = all[all.size() - sim::LAST_NAMED];
    old.names = old.sync_names = old.captured_names = {};
  }
  all.emplace_back();
}

API int sim_stub(const char* name) {
  std::lock_guard<std::mutex> lock(sim::guard());
  sim::stubs()[name]++;
  return 0;
}
