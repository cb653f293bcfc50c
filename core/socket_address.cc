#include "core/socket_address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/un.h>

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "core/check.h"

namespace tunnel::core {
namespace {

constexpr std::array<uint8_t, 12> kMappedPrefix = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

static_assert(kMaxUnixPathBytes == sizeof(sockaddr_un::sun_path) - 1);
constexpr socklen_t kUnixPathOffset = offsetof(sockaddr_un, sun_path);

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

std::optional<SocketAddress> SocketAddress::Unix(std::string_view path) {
  if (path.empty() || path.size() > kMaxUnixPathBytes || path.find('\0') != std::string_view::npos) return std::nullopt;
  sockaddr_un un{};
  un.sun_family = AF_UNIX;
  std::memcpy(un.sun_path, path.data(), path.size());
  return FromKernel(reinterpret_cast<const sockaddr*>(&un), kUnixPathOffset + static_cast<socklen_t>(path.size()) + 1);
}

SocketAddress SocketAddress::FromKernel(const sockaddr* address, socklen_t length) {
  SocketAddress result;
  if (length >= sizeof(sa_family_t) && length <= sizeof(sockaddr_un) && address->sa_family == AF_UNIX) {
    std::memcpy(&result.storage_, address, length);
    // The kernel's lengths of one path differ in whether they count its zero.
    const size_t path = strnlen(reinterpret_cast<const sockaddr_un*>(&result.storage_)->sun_path, kMaxUnixPathBytes);
    result.length_ = kUnixPathOffset + (path == 0 ? 0 : static_cast<socklen_t>(path) + 1);
    return result;
  }
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
  return valid() && !is_unix() ? ntohs(reinterpret_cast<const sockaddr_in*>(&storage_)->sin_port) : 0;
}

void SocketAddress::set_port(uint16_t port) {
  TUNNEL_CHECK(valid() && !is_unix());
  reinterpret_cast<sockaddr_in*>(&storage_)->sin_port = htons(port);
}

std::array<uint8_t, 16> SocketAddress::mapped_bytes() const {
  std::array<uint8_t, 16> bytes{};
  if (is_unix()) return bytes;
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
  if (is_unix()) return "unix";
  const std::array<uint8_t, 16> bytes = mapped_bytes();
  std::array<char, INET6_ADDRSTRLEN> text{};
  if (std::equal(kMappedPrefix.begin(), kMappedPrefix.end(), bytes.begin())) {
    inet_ntop(AF_INET, bytes.data() + 12, text.data(), text.size());
  } else {
    inet_ntop(AF_INET6, bytes.data(), text.data(), text.size());
  }
  return text.data();
}

std::string_view SocketAddress::unix_path() const {
  if (!is_unix() || length_ <= kUnixPathOffset) return {};
  return {reinterpret_cast<const sockaddr_un*>(&storage_)->sun_path, length_ - kUnixPathOffset - 1};
}

std::string SocketAddress::ToString() const {
  if (is_unix()) return "unix:" + std::string(unix_path());
  std::string text = ip();
  if (text.find(':') != std::string::npos) text = "[" + text + "]";
  return text + ":" + std::to_string(port());
}

bool operator==(const SocketAddress& a, const SocketAddress& b) {
  return a.length_ == b.length_ && std::memcmp(&a.storage_, &b.storage_, a.length_) == 0;
}

}  // namespace tunnel::core
