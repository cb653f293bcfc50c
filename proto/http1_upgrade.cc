#include "proto/http1_upgrade.h"

#include <algorithm>

#include "core/status.h"
#include "proto/http1_grammar.h"

namespace tunnel::proto {
namespace {

// 16 bytes of base64: 22 characters and two of padding.
bool IsWebSocketKey(std::string_view key) {
  const auto is_base64 = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '+' || c == '/';
  };
  return key.size() == 24 && key.ends_with("==") && std::all_of(key.begin(), key.begin() + 22, is_base64);
}

}  // namespace

absl::StatusOr<UpgradeRequest> CheckWebSocketUpgrade(const RequestHead& head) {
  if (head.method != "GET") return InvalidArgument("not an upgrade: the method is not GET");
  if (head.minor_version != 1) return InvalidArgument("not an upgrade: not HTTP/1.1");
  if (head.framing != BodyFraming{} && head.framing != BodyFraming{BodyFraming::Kind::kLength, 0}) {
    return InvalidArgument("not an upgrade: the request has a body");
  }
  const HeaderFields& fields = head.fields;
  if (!fields.HasToken("connection", "upgrade")) return InvalidArgument("not an upgrade: no Connection: Upgrade");
  if (!fields.HasToken("upgrade", "websocket")) return InvalidArgument("not an upgrade: no Upgrade: websocket");
  if (fields.Count("sec-websocket-version") != 1 || *fields.Find("sec-websocket-version") != "13") {
    return InvalidArgument("not an upgrade: Sec-WebSocket-Version is not 13");
  }
  if (fields.Count("sec-websocket-key") != 1 || !IsWebSocketKey(*fields.Find("sec-websocket-key"))) {
    return InvalidArgument("not an upgrade: Sec-WebSocket-Key is not 16 bytes of base64");
  }
  if (fields.Count("sec-websocket-protocol") > 1) {
    return InvalidArgument("not an upgrade: more than one Sec-WebSocket-Protocol");
  }
  return UpgradeRequest{.path = head.path,
                        .host = head.host,
                        .key = *fields.Find("sec-websocket-key"),
                        .protocols = fields.Find("sec-websocket-protocol").value_or(std::string_view())};
}

absl::Status CheckWebSocketAccept(const ResponseHead& head, std::string_view expected_accept,
                                  std::string_view offered_protocol) {
  switch (head.status) {
    case 101:
      break;
    case 401:
    case 403:
    case 407:
      return PermissionDenied("the server refused the channel: HTTP status {}", head.status);
    case 404:
      return NotFound("the server has no tunnel at this path: HTTP status 404");
    default:
      return Unavailable("the server did not upgrade to WebSocket: HTTP status {}", head.status);
  }
  if (head.minor_version != 1) return ProtocolError("malformed WebSocket handshake: not HTTP/1.1");
  const HeaderFields& fields = head.fields;
  if (!fields.HasToken("connection", "upgrade") || !fields.HasToken("upgrade", "websocket")) {
    return ProtocolError("malformed WebSocket handshake: no Upgrade: websocket");
  }
  if (fields.Count("sec-websocket-accept") != 1 || *fields.Find("sec-websocket-accept") != expected_accept) {
    return ProtocolError("malformed WebSocket handshake: Sec-WebSocket-Accept does not answer our key");
  }
  if (fields.Count("sec-websocket-extensions") > 0) {
    return ProtocolError("malformed WebSocket handshake: an extension that was not offered");
  }
  const size_t protocols = fields.Count("sec-websocket-protocol");
  if (protocols > 1 ||
      (protocols == 1 && (offered_protocol.empty() || *fields.Find("sec-websocket-protocol") != offered_protocol))) {
    return ProtocolError("malformed WebSocket handshake: a subprotocol that was not offered");
  }
  return absl::OkStatus();
}

}  // namespace tunnel::proto
