// A client's half of the upgrade that makes a TLS connection a channel: HTTP/1.1 to WebSocket, and what is spoken on
// it.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "core/slice.h"
#include "core/task.h"
#include "net/byte_stream.h"
#include "net/config.h"
#include "proto/mux_negotiation.h"

namespace tunnel::net {

// The whole request, with `key` as its Sec-WebSocket-Key, asking for mux/2 as a part of `session` unless -proto legacy.
// It holds the token and the session's id: not for a log.
[[nodiscard]] absl::StatusOr<std::string> UpgradeRequest(const Config& config, std::string_view key,
                                                         const proto::MuxSessionId& session);

struct UpgradeAnswer {
  // Ok when the connection is a channel now; else why not, in words without the peer.
  absl::Status status;
  int http_status = 0;                  // 0: none came
  std::optional<proto::MuxAnswer> mux;  // nothing: the server speaks the legacy protocol
  std::string rest;                     // what came behind the head
};

// Waits for the answer to the request with `key`, which was sent on `stream`; that must have no handler and gets none.
// The caller's deadline is the answer's.
[[nodiscard]] core::Task<UpgradeAnswer> ReadUpgradeAnswer(ByteStream& stream, const Config& config, std::string key);

}  // namespace tunnel::net
