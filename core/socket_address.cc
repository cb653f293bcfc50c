#include "core/socket_address.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <cstring>

#include "core/check.h"

namespace tunnel::core {
namespace {

constexpr std::array<uint8_t, 12> kMappedPrefix = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

}  // namespace

std::optional<SocketAddress> SocketAddress::Parse(std::string_view ip, uint16_t port) {
  if (ip.find('\0') != std::string_view::npos) return std::nullopt;  // C would see a shorter text
  const std::string text(ip);
  std::array<uint8_t, 16> bytes{};
  if (inet_pton(AF_INET, text.c_str(), bytes.data()) == 1) {
    return V4({bytes[0], bytes[1], bytes[2], bytes[3]}, port);
  }
  if (inet_pton(AF_INET6, text.c_str(), bytes.data()) == 1) return V6(bytes, port);
  return std::nullopt;
}

SocketAddress SocketAddress::V4(const std::array<uint8_t, 4>& bytes, uint16_t port) {
  sockaddr_in in{};
  in.sin_family = AF_INET;
  in.sin_port = htons(port);
  std::memcpy(&in.sin_addr, bytes.data(), bytes.size());
  return FromKernel(reinterpret_cast<const sockaddr*>(&in), sizeof(in));
}

SocketAddress SocketAddress::V6(const std::array<uint8_t, 16>& bytes, uint16_t port) {
  sockaddr_in6 in6{};
  in6.sin6_family = AF_INET6;
  in6.sin6_port = htons(port);
  std::memcpy(&in6.sin6_addr, bytes.data(), bytes.size());
  return FromKernel(reinterpret_cast<const sockaddr*>(&in6), sizeof(in6));
}

SocketAddress SocketAddress::FromKernel(const sockaddr* address, socklen_t length) {
  SocketAddress result;
  const bool known = (length >= sizeof(sockaddr_in) && address->sa_family == AF_INET) ||
                     (length >= sizeof(sockaddr_in6) && address->sa_family == AF_INET6);
  if (known) {
    result.length_ = address->sa_family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
    std::memcpy(&result.storage_, address, result.length_);
  }
  return result;
}

uint16_t SocketAddress::port() const {
  // sin_port and sin6_port lie at the same offset.
  return valid() ? ntohs(reinterpret_cast<const sockaddr_in*>(&storage_)->sin_port) : 0;
}

void SocketAddress::set_port(uint16_t port) {
  TUNNEL_CHECK(valid());
  reinterpret_cast<sockaddr_in*>(&storage_)->sin_port = htons(port);
}

std::array<uint8_t, 16> SocketAddress::mapped_bytes() const {
  std::array<uint8_t, 16> bytes{};
  if (is_v6()) {
    std::memcpy(bytes.data(), &reinterpret_cast<const sockaddr_in6*>(&storage_)->sin6_addr, 16);
  } else {
    std::copy(kMappedPrefix.begin(), kMappedPrefix.end(), bytes.begin());
    std::memcpy(bytes.data() + 12, &reinterpret_cast<const sockaddr_in*>(&storage_)->sin_addr, 4);
  }
  return bytes;
}

std::string SocketAddress::ip() const {
  if (!valid()) return "unknown";
  const std::array<uint8_t, 16> bytes = mapped_bytes();
  std::array<char, INET6_ADDRSTRLEN> text{};
  if (std::equal(kMappedPrefix.begin(), kMappedPrefix.end(), bytes.begin())) {
    inet_ntop(AF_INET, bytes.data() + 12, text.data(), text.size());
  } else {
    inet_ntop(AF_INET6, bytes.data(), text.data(), text.size());
  }
  return text.data();
}

std::string SocketAddress::ToString() const {
  std::string text = ip();
  if (text.find(':') != std::string::npos) text = "[" + text + "]";
  return text + ":" + std::to_string(port());
}

bool operator==(const SocketAddress& a, const SocketAddress& b) {
  return a.length_ == b.length_ && std::memcmp(&a.storage_, &b.storage_, a.length_) == 0;
}

}  // namespace tunnel::core
