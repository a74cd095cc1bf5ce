// Error reporting of the shim: functions return nullptr, or a message allocated with strdup that the caller frees.

#pragma once

#include <cstring>
#include <exception>
#include <string>

#include <c10/util/Exception.h>

inline char* message(const std::string& text) { return strdup(text.c_str()); }

template <typename F>
char* guarded(F&& body) {
  try {
    body();
    return nullptr;
  } catch (const c10::Error& error) {
    return message(error.what_without_backtrace());
  } catch (const std::exception& error) {
    return message(error.what());
  } catch (...) {
    return message("unknown C++ exception");
  }
}
