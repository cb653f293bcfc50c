// The round trip of a WebSocket that is not anybody's channel yet.
#pragma once

#include <string>
#include <vector>

#include "core/reactor.h"
#include "core/task.h"
#include "net/byte_stream.h"

namespace tunnel::net {

// Sends `count` Pings (RFC 6455 section 5.5.2) one after another on a stream whose upgrade is done, as its client, and
// says goodbye; messages that come meanwhile are dropped. `received` is what came behind the upgrade's head. Returns
// the time from each Ping to its Pong. The caller's deadline is that of all of them.
[[nodiscard]] core::Task<absl::StatusOr<std::vector<core::Duration>>> PingWebSocket(core::Reactor& reactor,
                                                                                    ByteStream& stream,
                                                                                    std::string received, int count);

}  // namespace tunnel::net
