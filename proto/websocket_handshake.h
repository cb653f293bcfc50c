// The two header values of the WebSocket opening handshake (RFC 6455 sections 4.1 and 4.2.2). The HTTP heads around
// them belong to proto/http1.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace tunnel::proto {

// A Sec-WebSocket-Key: 16 bytes, fresh for every handshake from the system's random source, in base64.
[[nodiscard]] std::string MakeWebSocketKey(std::span<const uint8_t, 16> random);

// Whether `key` is the base64 of 16 bytes, as a server must check (section 4.2.1 item 5).
[[nodiscard]] bool IsWebSocketKey(std::string_view key);

// The Sec-WebSocket-Accept that answers `key`, whatever it holds.
[[nodiscard]] std::string WebSocketAcceptFor(std::string_view key);

}  // namespace tunnel::proto
