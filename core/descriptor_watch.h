// Readiness of a descriptor that somebody else reads and writes: a library's socket, a signalfd.
#pragma once

#include <absl/functional/any_invocable.h>

#include <cstdint>

#include "core/reactor.h"

namespace tunnel::core {

// Calls `ready` with the events (EPOLLIN, EPOLLOUT, EPOLLERR) that are there, again and again while they are, until
// Watch(0) or destruction. Does not own the descriptor; it must stay open until then, and may be closed right after.
// One watch a descriptor. A descriptor that cannot be watched is reported as EPOLLERR. Owner core only.
class DescriptorWatch {
 public:
  DescriptorWatch(Reactor& reactor, int descriptor, absl::AnyInvocable<void(uint32_t events)> ready);
  DescriptorWatch(const DescriptorWatch&) = delete;
  DescriptorWatch& operator=(const DescriptorWatch&) = delete;
  ~DescriptorWatch();
  // What to wait for; 0 for nothing.
  void Watch(uint32_t events);

 private:
  class State;
  State* state_;
};

}  // namespace tunnel::core
