// What c10d/ProcessGroupGloo.hpp uses of Gloo's header of this name, which libtorch does not ship: it holds
// pointers to contexts only, so no layout is repeated here.
#pragma once

#include <chrono>

namespace gloo {

class Context {
 public:
  void setTimeout(std::chrono::milliseconds timeout);
};

}  // namespace gloo
