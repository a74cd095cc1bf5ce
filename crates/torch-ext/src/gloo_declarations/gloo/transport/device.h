// What c10d/ProcessGroupGloo.hpp uses of Gloo's headers about transport: pointers to these.
#pragma once

namespace gloo {
namespace transport {

class Device;

// In fact an interface. The destructor is the one that libtorch exports.
class UnboundBuffer {
 public:
  virtual ~UnboundBuffer() = 0;
};

}  // namespace transport
}  // namespace gloo
