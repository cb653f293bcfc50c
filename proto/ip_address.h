// IP addresses and address ranges as values: text to bytes and back. Nothing here touches a socket.
#pragma once

#include <absl/status/statusor.h>

#include <array>
#include <compare>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace tunnel::proto {

struct IpAddress {
  bool v6 = false;
  // In network order. An IPv4 address is the first four; the other twelve are then zero.
  std::array<uint8_t, 16> bytes{};

  static IpAddress V4(std::span<const uint8_t, 4> octets);
  static IpAddress V6(std::span<const uint8_t, 16> octets);

  std::span<const uint8_t> octets() const { return std::span(bytes).first(v6 ? 16 : 4); }

  // IPv4 before IPv6, then by number.
  auto operator<=>(const IpAddress&) const = default;
};

// Parses a dotted quad or an IPv6 address (RFC 4291 2.2) without brackets or zone. As strict as inet_pton: no octal,
// hexadecimal, short or decimal forms. Does not allocate. nullopt when `text` is anything else, a name for instance.
std::optional<IpAddress> ParseIpAddress(std::string_view text);

// A dotted quad, or the canonical text of RFC 5952 (IPv4-mapped addresses in mixed notation, section 5).
std::string ToString(const IpAddress& address);

// The IPv4 address within an IPv4-mapped IPv6 address (RFC 4291 2.5.5.2); any other address as it is.
IpAddress Unmapped(const IpAddress& address);

// The addresses that share the first `prefix` bits with `address`, whose other bits are zero.
struct Cidr {
  IpAddress address;
  // At most 32 for IPv4, 128 for IPv6.
  uint8_t prefix = 0;

  // An IPv4-mapped IPv6 address is looked at as the IPv4 address it is, so `::/0` does not contain it.
  bool Contains(const IpAddress& candidate) const;

  auto operator<=>(const Cidr&) const = default;
};

// Parses `address/prefix`, or a lone address for the range of itself. Bits below the prefix are cleared; a range of
// IPv4-mapped addresses becomes the IPv4 range. InvalidArgument names what is wrong.
absl::StatusOr<Cidr> ParseCidr(std::string_view text);

std::string ToString(const Cidr& cidr);

}  // namespace tunnel::proto
