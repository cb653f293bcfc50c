// ATYP ADDR PORT, the address in every SOCKS5 message that has one (RFC 1928 4 to 7).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "proto/codec_limits.h"
#include "proto/ip_address.h"
#include "proto/target.h"

namespace tunnel::proto {

// Where it stands in a request, a reply and the header of a datagram: behind three bytes.
inline constexpr size_t kSocks5AddressAt = 3;
// The first bytes of an address that tell its length: ATYP, and the length of a name.
inline constexpr size_t kSocks5AddressStartBytes = 2;

// The ATYP of a name.
inline constexpr uint8_t kSocks5NameAddress = 3;

// How long the whole address is that begins with these bytes; 0 when its type is unknown.
[[nodiscard]] size_t Socks5AddressBytes(std::span<const uint8_t, kSocks5AddressStartBytes> start);

[[nodiscard]] bool IsSocks5AddressType(uint8_t atyp);

// Reads an address of exactly Socks5AddressBytes. False when its host is no valid name; port 0 is for the caller to
// judge. `target` is overwritten, its memory reused, in either case.
[[nodiscard]] bool ReadSocks5Address(std::span<const uint8_t> address, Target& target);

// Both write an address and return how many bytes that took. `out` needs room for 1 + 16 + 2 bytes for an IP address
// and for kSocks5MaxAddressBytes for a target, whose host is at most kMaxHostBytes long; one that is an IP literal is
// written as an address.
size_t WriteSocks5Address(std::span<uint8_t> out, const IpAddress& ip, uint16_t port);
size_t WriteSocks5Address(std::span<uint8_t> out, const Target& target);

}  // namespace tunnel::proto
