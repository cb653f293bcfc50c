// The opening handshake of WebSocket (RFC 6455 4) as fields of HTTP/1.1 heads, for both roles.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <string_view>

#include "proto/http1.h"

namespace tunnel::proto {

// Views into the bytes of the request head.
struct UpgradeRequest {
  // Path and query.
  std::string_view path;
  std::string_view host;
  // Sec-WebSocket-Key: 24 characters of base64, 16 bytes.
  std::string_view key;
  // Sec-WebSocket-Protocol as it stands, the list not split; empty when it is missing.
  std::string_view protocols;
};

// Whether `head` asks for WebSocket as RFC 6455 4.2.1 wants it: GET, HTTP/1.1, no body, Upgrade and Connection,
// version 13, one well-formed key. Sec-WebSocket-Protocol may stand once: a list split over several fields is refused,
// since the token is compared as a whole. InvalidArgument says what is wrong, and never quotes what may be a token.
absl::StatusOr<UpgradeRequest> CheckWebSocketUpgrade(const RequestHead& head);

// Whether `head` completes the handshake (RFC 6455 4.1). `expected_accept` is what our key makes of
// Sec-WebSocket-Accept. `offered_protocol` is the subprotocol we offered, or empty; the server may leave it out but
// may not name another one. We offer no extensions, so none may be there.
// PermissionDenied for 401, 403 and 407, NotFound for 404, Unavailable for other statuses, which name the status;
// ProtocolError for a 101 that is not what we asked for.
absl::Status CheckWebSocketAccept(const ResponseHead& head, std::string_view expected_accept,
                                  std::string_view offered_protocol);

}  // namespace tunnel::proto
