#include "proto/socks5_udp.h"

#include <algorithm>

#include "core/check.h"
#include "proto/socks5_address.h"

namespace tunnel::proto {
namespace {

Socks5UdpResult Refuse(std::string_view reason) { return {.reason = reason}; }

}  // namespace

Socks5UdpResult DecodeSocks5Udp(std::span<const uint8_t> datagram, Target& target) {
  if (datagram.size() <= kSocks5AddressAt) return Refuse("too short for a header");
  if (datagram[0] != 0 || datagram[1] != 0) return Refuse("the reserved bytes are not zero");
  if (datagram[2] != 0) return Refuse("a fragment");
  const std::span<const uint8_t> rest = datagram.subspan(kSocks5AddressAt);
  if (!IsSocks5AddressType(rest[0])) return Refuse("unknown address type");
  if (rest.size() < kSocks5AddressStartBytes) return Refuse("too short for its address");
  const size_t address_size = Socks5AddressBytes(rest.first<kSocks5AddressStartBytes>());
  if (rest.size() < address_size) return Refuse("too short for its address");
  const bool valid = ReadSocks5Address(rest.first(address_size), target);
  if (target.port == 0) return Refuse("port 0");
  if (!valid) return Refuse("the host name is not valid");
  return {.ok = true, .header_bytes = kSocks5AddressAt + address_size};
}

size_t EncodeSocks5Udp(std::span<uint8_t> out, const Target& target) {
  TUNNEL_CHECK(out.size() >= kSocks5MaxUdpHeaderBytes);
  std::fill_n(out.begin(), kSocks5AddressAt, uint8_t{0});
  return kSocks5AddressAt + WriteSocks5Address(out.subspan(kSocks5AddressAt), target);
}

}  // namespace tunnel::proto
