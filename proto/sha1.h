// SHA-1 (FIPS 180-4), for Sec-WebSocket-Accept and nothing else.
//
// RFC 6455 section 4.2.2 uses it to show that a server understood the handshake, not to protect anything; SHA-1 must
// not be used where collisions matter. It is here because proto/ does not depend on the TLS library.
#pragma once

#include <array>
#include <cstdint>
#include <span>

namespace tunnel::proto {

[[nodiscard]] std::array<uint8_t, 20> Sha1(std::span<const uint8_t> message);

}  // namespace tunnel::proto
