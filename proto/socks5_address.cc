#include "proto/socks5_address.h"

#include <algorithm>

#include "core/check.h"

namespace tunnel::proto {
namespace {

enum class AddressType : uint8_t { kV4 = 1, kName = kSocks5NameAddress, kV6 = 4 };

constexpr size_t kPortBytes = 2;

// Both return where the next byte goes.
size_t Copy(std::span<uint8_t> out, size_t at, const auto& bytes) {
  std::copy(bytes.begin(), bytes.end(), out.begin() + static_cast<ptrdiff_t>(at));
  return at + bytes.size();
}

size_t WritePort(std::span<uint8_t> out, size_t at, uint16_t port) {
  out[at] = static_cast<uint8_t>(port >> 8);
  out[at + 1] = static_cast<uint8_t>(port);
  return at + kPortBytes;
}

}  // namespace

bool IsSocks5AddressType(uint8_t atyp) {
  switch (static_cast<AddressType>(atyp)) {
    case AddressType::kV4:
    case AddressType::kName:
    case AddressType::kV6:
      return true;
  }
  return false;
}

size_t Socks5AddressBytes(std::span<const uint8_t, kSocks5AddressStartBytes> start) {
  switch (static_cast<AddressType>(start[0])) {
    case AddressType::kV4:
      return 1 + 4 + kPortBytes;
    case AddressType::kName:
      return 2UL + start[1] + kPortBytes;
    case AddressType::kV6:
      return 1 + 16 + kPortBytes;
  }
  return 0;
}

bool ReadSocks5Address(std::span<const uint8_t> address, Target& target) {
  TUNNEL_CHECK(address.size() >= kSocks5AddressStartBytes &&
               address.size() == Socks5AddressBytes(address.first<kSocks5AddressStartBytes>()));
  const std::span<const uint8_t> port = address.last(kPortBytes);
  target.port = static_cast<uint16_t>(port[0] << 8 | port[1]);
  switch (static_cast<AddressType>(address[0])) {
    case AddressType::kV4:
      target.host = ToString(IpAddress::V4(address.subspan<1, 4>()));
      return true;
    case AddressType::kV6:
      target.host = ToString(IpAddress::V6(address.subspan<1, 16>()));
      return true;
    case AddressType::kName:
      break;
  }
  const std::span<const uint8_t> name = address.subspan(2, address[1]);
  target.host.assign(reinterpret_cast<const char*>(name.data()), name.size());
  return IsValidHost(target.host);
}

size_t WriteSocks5Address(std::span<uint8_t> out, const IpAddress& ip, uint16_t port) {
  const std::span<const uint8_t> octets = ip.octets();
  TUNNEL_CHECK(out.size() >= 1 + octets.size() + kPortBytes);
  out[0] = static_cast<uint8_t>(ip.v6 ? AddressType::kV6 : AddressType::kV4);
  return WritePort(out, Copy(out, 1, octets), port);
}

size_t WriteSocks5Address(std::span<uint8_t> out, const Target& target) {
  TUNNEL_CHECK(out.size() >= kSocks5MaxAddressBytes && target.host.size() <= kMaxHostBytes);
  if (const std::optional<IpAddress> ip = ParseIpAddress(target.host)) return WriteSocks5Address(out, *ip, target.port);
  out[0] = static_cast<uint8_t>(AddressType::kName);
  out[1] = static_cast<uint8_t>(target.host.size());
  return WritePort(out, Copy(out, 2, target.host), target.port);
}

}  // namespace tunnel::proto
