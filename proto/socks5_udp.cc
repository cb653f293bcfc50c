#include "proto/socks5_udp.h"

#include <algorithm>

#include "core/check.h"

namespace tunnel::proto {
namespace {

constexpr uint8_t kAtypV4 = 1;
constexpr uint8_t kAtypName = 3;
constexpr uint8_t kAtypV6 = 4;
constexpr size_t kAddressAt = 4;

Socks5UdpResult Refuse(std::string_view reason) { return {.reason = reason}; }

}  // namespace

Socks5UdpResult DecodeSocks5Udp(std::span<const uint8_t> datagram, Target& target) {
  if (datagram.size() < kAddressAt) return Refuse("too short for a header");
  if (datagram[0] != 0 || datagram[1] != 0) return Refuse("the reserved bytes are not zero");
  if (datagram[2] != 0) return Refuse("a fragment");
  size_t at = kAddressAt;
  size_t size = 0;
  switch (datagram[3]) {
    case kAtypV4:
      size = 4;
      break;
    case kAtypV6:
      size = 16;
      break;
    case kAtypName:
      if (datagram.size() <= at) return Refuse("too short for its address");
      size = datagram[at++];
      break;
    default:
      return Refuse("unknown address type");
  }
  if (datagram.size() < at + size + 2) return Refuse("too short for its address");
  const std::span<const uint8_t> address = datagram.subspan(at, size);
  const size_t port_at = at + size;
  target.port = static_cast<uint16_t>(datagram[port_at] << 8 | datagram[port_at + 1]);
  if (target.port == 0) return Refuse("port 0");
  if (datagram[3] == kAtypV4) {
    target.host = ToString(IpAddress::V4(address.first<4>()));
  } else if (datagram[3] == kAtypV6) {
    target.host = ToString(IpAddress::V6(address.first<16>()));
  } else {
    target.host.assign(reinterpret_cast<const char*>(address.data()), address.size());
    if (!IsValidHost(target.host)) return Refuse("the host name is not valid");
  }
  return {.ok = true, .header_bytes = port_at + 2};
}

size_t EncodeSocks5Udp(std::span<uint8_t> out, const Target& target) {
  TUNNEL_CHECK(out.size() >= kSocks5MaxUdpHeaderBytes && target.host.size() <= kMaxHostBytes);
  std::fill_n(out.begin(), 3, uint8_t{0});
  size_t at = kAddressAt;
  const auto put = [&](const auto& bytes) {
    std::copy(bytes.begin(), bytes.end(), out.begin() + static_cast<ptrdiff_t>(at));
    at += bytes.size();
  };
  if (const std::optional<IpAddress> address = ParseIpAddress(target.host); address.has_value()) {
    out[3] = address->v6 ? kAtypV6 : kAtypV4;
    put(address->octets());
  } else {
    out[3] = kAtypName;
    out[at++] = static_cast<uint8_t>(target.host.size());
    put(target.host);
  }
  out[at++] = static_cast<uint8_t>(target.port >> 8);
  out[at++] = static_cast<uint8_t>(target.port);
  return at;
}

}  // namespace tunnel::proto
