// The header that a SOCKS5 UDP relay puts before every datagram (RFC 1928 section 7), both ways:
//
//   RSV RSV FRAG ATYP ADDR... PORT PORT DATA...
//
// Towards the relay the address says where the datagram goes, from the relay where it came from. Fragments (FRAG other
// than 0) are optional there; nobody sends them, and we drop them. 10 bytes with IPv4, 22 with IPv6.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "proto/codec_limits.h"
#include "proto/target.h"

namespace tunnel::proto {

struct Socks5UdpResult {
  bool ok = false;
  size_t header_bytes = 0;       // ok: the payload begins here; it may be empty
  std::string_view reason = {};  // not ok: a literal
};

// Reads the header of one whole datagram; `target` is set when the result is ok and undefined otherwise. It passes
// IsValidHost and its port is not 0. Allocates nothing but the target's host.
[[nodiscard]] Socks5UdpResult DecodeSocks5Udp(std::span<const uint8_t> datagram, Target& target);

// Writes the header for `target` into `out`, which holds kSocks5MaxUdpHeaderBytes, and returns its size. An IP literal
// goes as an address, anything else as a name; its host is at most kMaxHostBytes.
size_t EncodeSocks5Udp(std::span<uint8_t> out, const Target& target);

}  // namespace tunnel::proto
