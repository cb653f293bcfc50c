// Which core keeps a mux/2 session, for the whole process.
#pragma once

#include <absl/container/flat_hash_map.h>

#include <mutex>

#include "proto/mux_negotiation.h"

namespace tunnel::net {

// Asked once for each channel that is accepted, so that all channels of a session, and with them its streams, are on
// one core, whichever core the kernel gave their connections to. Any thread.
class MuxSessionDirectory {
 public:
  // The core that keeps `session`: `core` itself, from now on, where no other does.
  [[nodiscard]] unsigned Claim(const proto::MuxSessionId& session, unsigned core) {
    const std::lock_guard lock(mutex_);
    return cores_.try_emplace(session, core).first->second;
  }
  // `core` keeps it no longer.
  void Forget(const proto::MuxSessionId& session, unsigned core) {
    const std::lock_guard lock(mutex_);
    const auto found = cores_.find(session);
    if (found != cores_.end() && found->second == core) cores_.erase(found);
  }

 private:
  std::mutex mutex_;
  absl::flat_hash_map<proto::MuxSessionId, unsigned> cores_;
};

}  // namespace tunnel::net
