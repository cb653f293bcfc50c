// The header of SOCKS5 datagrams: what is accepted names a target that can be dialled, does not depend on the payload,
// and comes back from the encoder as the same bytes, or as the shorter form of a name that spells an address.
#include <algorithm>
#include <array>
#include <cstdint>
#include <span>

#include "core/check.h"
#include "proto/socks5_udp.h"

using namespace tunnel::proto;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::span<const uint8_t> input(data, size);
  Target target;
  const Socks5UdpResult result = DecodeSocks5Udp(input, target);
  if (!result.ok) {
    TUNNEL_CHECK(!result.reason.empty() && result.header_bytes == 0);
    return 0;
  }
  TUNNEL_CHECK(result.header_bytes <= std::min(size, kSocks5MaxUdpHeaderBytes));
  const auto again = ParseTarget(ToString(target));
  TUNNEL_CHECK(again.ok() && *again == target);

  Target alone;
  TUNNEL_CHECK(DecodeSocks5Udp(input.first(result.header_bytes), alone).ok && alone == target);
  for (size_t cut = 0; cut < result.header_bytes; ++cut) {
    TUNNEL_CHECK(!DecodeSocks5Udp(input.first(cut), alone).ok);
  }

  std::array<uint8_t, kSocks5MaxUdpHeaderBytes> out{};
  const size_t encoded = EncodeSocks5Udp(out, target);
  const bool spelled_out = data[3] == 3 && ParseIpAddress(target.host).has_value();
  TUNNEL_CHECK(spelled_out || std::ranges::equal(std::span(out).first(encoded), input.first(result.header_bytes)));
  TUNNEL_CHECK(DecodeSocks5Udp(std::span(out).first(encoded), alone).ok);
  return 0;
}
