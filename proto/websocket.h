// The vocabulary of WebSocket (RFC 6455) that decoder, encoder and handshake share.
#pragma once

#include <cstdint>

namespace tunnel::proto {

// Which end of the connection we are. A client masks what it sends, a server must not (section 5.1).
enum class Role : uint8_t { kClient, kServer };

constexpr Role PeerOf(Role role) { return role == Role::kClient ? Role::kServer : Role::kClient; }

// The opcodes of section 11.8; all others are reserved.
enum class Opcode : uint8_t {
  kContinuation = 0,
  kText = 1,
  kBinary = 2,
  kClose = 8,
  kPing = 9,
  kPong = 10,
};

constexpr bool IsControl(Opcode opcode) { return (static_cast<uint8_t>(opcode) & 8) != 0; }

// Close codes we name (section 7.4.1). kCloseNoStatus never travels: it stands for a Close without a code.
inline constexpr uint16_t kCloseNormal = 1000;
inline constexpr uint16_t kCloseGoingAway = 1001;
inline constexpr uint16_t kCloseProtocolError = 1002;
inline constexpr uint16_t kCloseUnsupportedData = 1003;
inline constexpr uint16_t kCloseNoStatus = 1005;
inline constexpr uint16_t kCloseInvalidPayload = 1007;
inline constexpr uint16_t kClosePolicy = 1008;
inline constexpr uint16_t kCloseTooBig = 1009;
inline constexpr uint16_t kCloseInternalError = 1011;

// Whether `code` may stand in a Close frame: 1000 to 1003 and 1007 to 1014 (section 7.4.1 and the IANA registry of
// section 11.7), 3000 to 4999 (section 7.4.2).
constexpr bool IsWireCloseCode(uint16_t code) {
  return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) || (code >= 3000 && code <= 4999);
}

}  // namespace tunnel::proto
