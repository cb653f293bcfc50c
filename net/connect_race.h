// Connecting to a host that has several addresses (RFC 8305 section 5).
#pragma once

#include <chrono>
#include <vector>

#include "core/socket_address.h"
#include "core/stream_socket.h"
#include "core/task.h"

namespace tunnel::net {

struct ConnectRaceOptions {
  core::Duration attempt_delay = std::chrono::milliseconds(250);
  core::Duration limit = std::chrono::seconds(10);
};

// Connects to one of `addresses`, tried in their order (OrderForDialling): the next one is tried when the one before
// has failed, or has not connected after `attempt_delay`. The first connection wins and the others are given up; all
// have ended when this returns. The error lists every address and what became of it; its code and
// IoErrorOf() are those of the first one that was refused an answer rather than kept waiting. Or why the task was
// interrupted.
[[nodiscard]] core::Task<absl::StatusOr<core::StreamSocket>> ConnectRace(core::Reactor& reactor,
                                                                         std::vector<core::SocketAddress> addresses,
                                                                         ConnectRaceOptions options);

}  // namespace tunnel::net
