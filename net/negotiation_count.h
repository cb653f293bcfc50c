// Counts connections that are not yet streams, for the bound kNegotiationsPerCore.
#pragma once

#include "core/reactor.h"

namespace tunnel::net {

// One such connection, for as long as this lives.
class NegotiationCount {
 public:
  explicit NegotiationCount(core::Reactor& reactor) : counter_(reactor.counters().handshakes_in_progress) {
    counter_.Add();
  }
  NegotiationCount(const NegotiationCount&) = delete;
  NegotiationCount& operator=(const NegotiationCount&) = delete;
  ~NegotiationCount() { counter_.Add(-1); }

 private:
  core::Counter& counter_;
};

}  // namespace tunnel::net
