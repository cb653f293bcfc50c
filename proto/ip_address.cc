#include "proto/ip_address.h"

#include <arpa/inet.h>

#include <algorithm>
#include <cstring>

#include "core/check.h"
#include "core/status.h"

namespace tunnel::proto {
namespace {

constexpr std::array<uint8_t, 12> kMappedPrefix = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

std::string DottedQuad(std::span<const uint8_t> octets) {
  return fmt::format("{}.{}.{}.{}", octets[0], octets[1], octets[2], octets[3]);
}

// Zeroes the bits of `bytes` after the first `prefix`.
void ClearAfter(std::array<uint8_t, 16>& bytes, unsigned prefix) {
  for (unsigned i = 0; i < bytes.size(); ++i) {
    const unsigned first_bit = i * 8;
    if (first_bit >= prefix) {
      bytes[i] = 0;
    } else if (prefix - first_bit < 8) {
      bytes[i] = static_cast<uint8_t>(bytes[i] & (0xff00U >> (prefix - first_bit)));
    }
  }
}

bool IsMapped(const IpAddress& address) {
  return address.v6 && std::equal(kMappedPrefix.begin(), kMappedPrefix.end(), address.bytes.begin());
}

}  // namespace

IpAddress IpAddress::V4(std::span<const uint8_t, 4> octets) {
  IpAddress address;
  std::copy(octets.begin(), octets.end(), address.bytes.begin());
  return address;
}

IpAddress IpAddress::V6(std::span<const uint8_t, 16> octets) {
  IpAddress address{.v6 = true};
  std::copy(octets.begin(), octets.end(), address.bytes.begin());
  return address;
}

std::optional<IpAddress> ParseIpAddress(std::string_view text) {
  // inet_pton wants a terminated string; a NUL inside would end it early.
  std::array<char, INET6_ADDRSTRLEN> terminated{};
  if (text.size() >= terminated.size() || text.find('\0') != std::string_view::npos) return std::nullopt;
  std::copy(text.begin(), text.end(), terminated.begin());
  IpAddress address;
  address.v6 = text.find(':') != std::string_view::npos;
  if (inet_pton(address.v6 ? AF_INET6 : AF_INET, terminated.data(), address.bytes.data()) != 1) return std::nullopt;
  return address;
}

std::string ToString(const IpAddress& address) {
  if (!address.v6) return DottedQuad(address.bytes);
  if (IsMapped(address)) return "::ffff:" + DottedQuad(std::span(address.bytes).subspan(12));
  std::array<unsigned, 8> groups{};
  for (size_t i = 0; i < groups.size(); ++i) groups[i] = address.bytes[2 * i] * 256U + address.bytes[2 * i + 1];
  // The first of the longest runs of at least two zero groups is written as "::" (RFC 5952 4.2).
  size_t run_start = groups.size();
  size_t run_length = 1;
  for (size_t i = 0; i < groups.size(); ++i) {
    size_t end = i;
    while (end < groups.size() && groups[end] == 0) ++end;
    if (end - i > run_length) {
      run_start = i;
      run_length = end - i;
    }
    if (end > i) i = end - 1;
  }
  std::string text;
  for (size_t i = 0; i < groups.size(); ++i) {
    if (i == run_start) {
      text += "::";
      i += run_length - 1;
    } else {
      fmt::format_to(std::back_inserter(text), "{}{:x}", text.empty() || text.back() == ':' ? "" : ":", groups[i]);
    }
  }
  return text;
}

IpAddress Unmapped(const IpAddress& address) {
  if (!IsMapped(address)) return address;
  return IpAddress::V4(std::span(address.bytes).subspan<12, 4>());
}

bool Cidr::Contains(const IpAddress& candidate) const {
  TUNNEL_CHECK(prefix <= (address.v6 ? 128 : 32));
  IpAddress network = Unmapped(candidate);
  if (network.v6 != address.v6) return false;
  ClearAfter(network.bytes, prefix);
  return network == address;
}

absl::StatusOr<Cidr> ParseCidr(std::string_view text) {
  const size_t slash = text.find('/');
  const std::optional<IpAddress> address = ParseIpAddress(text.substr(0, slash));
  if (!address)
    return InvalidArgument("\"{}\" is not a range: expected ADDRESS/PREFIX, as 10.0.0.0/8 or fd00::/8", text);
  const unsigned bits = address->v6 ? 128 : 32;
  unsigned prefix = bits;
  if (slash != std::string_view::npos) {
    const std::string_view digits = text.substr(slash + 1);
    const bool well_formed = !digits.empty() && digits.size() <= 3 && (digits[0] != '0' || digits.size() == 1) &&
                             std::all_of(digits.begin(), digits.end(), [](char c) { return c >= '0' && c <= '9'; });
    prefix = 0;
    for (const char c : digits.substr(0, 3)) prefix = prefix * 10 + static_cast<unsigned>(c - '0');
    if (!well_formed || prefix > bits) {
      return InvalidArgument("\"{}\" is not a range: the prefix after / must be a number from 0 to {}", text, bits);
    }
  }
  Cidr cidr{.address = *address, .prefix = static_cast<uint8_t>(prefix)};
  if (prefix >= 96 && IsMapped(cidr.address)) {
    cidr = {.address = Unmapped(cidr.address), .prefix = static_cast<uint8_t>(prefix - 96)};
  }
  ClearAfter(cidr.address.bytes, cidr.prefix);
  return cidr;
}

std::string ToString(const Cidr& cidr) { return fmt::format("{}/{}", ToString(cidr.address), cidr.prefix); }

}  // namespace tunnel::proto
