// An IPv4 or IPv6 address with a port, or the path of a Unix socket, in the kernel's own form. A value; no allocation.
#pragma once

#include <sys/socket.h>

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace tunnel::core {

// What sockaddr_un has room for, with its terminating zero.
inline constexpr size_t kMaxUnixPathBytes = 107;

class SocketAddress {
 public:
  SocketAddress() = default;

  // From an IP literal (no brackets, no zone, no name) and a port; nullopt when `ip` is not one.
  [[nodiscard]] static std::optional<SocketAddress> Parse(std::string_view ip, uint16_t port);
  // From network-order bytes: 4 for IPv4, 16 for IPv6.
  [[nodiscard]] static SocketAddress V4(const std::array<uint8_t, 4>& bytes, uint16_t port);
  [[nodiscard]] static SocketAddress V6(const std::array<uint8_t, 16>& bytes, uint16_t port);
  // A Unix stream socket in the file system; nullopt when `path` is empty, holds a NUL or is over kMaxUnixPathBytes.
  [[nodiscard]] static std::optional<SocketAddress> Unix(std::string_view path);
  // From what the kernel wrote. `length` of an unknown family gives an address that is not valid().
  [[nodiscard]] static SocketAddress FromKernel(const sockaddr* address, socklen_t length);

  [[nodiscard]] bool valid() const { return length_ != 0; }
  [[nodiscard]] bool is_v6() const { return storage_.ss_family == AF_INET6; }
  [[nodiscard]] bool is_unix() const { return storage_.ss_family == AF_UNIX; }
  [[nodiscard]] int family() const { return storage_.ss_family; }
  // 0 for a Unix socket, which has none.
  [[nodiscard]] uint16_t port() const;
  // Not for a Unix socket.
  void set_port(uint16_t port);

  // The address without its port: an IPv4-mapped IPv6 address is given as IPv4, so that rules cannot be evaded.
  // "unix" for a Unix socket.
  [[nodiscard]] std::string ip() const;
  // The path of a Unix socket; empty for its unnamed end, and for another family.
  [[nodiscard]] std::string_view unix_path() const;
  // "1.2.3.4:443", "[::1]:443" or "unix:/path"; "unix:" for an unnamed end.
  [[nodiscard]] std::string ToString() const;
  // The address's bytes in network order, as 16: IPv4 in its IPv4-mapped form. All zero for a Unix socket.
  [[nodiscard]] std::array<uint8_t, 16> mapped_bytes() const;

  [[nodiscard]] const sockaddr* kernel() const { return reinterpret_cast<const sockaddr*>(&storage_); }
  [[nodiscard]] socklen_t kernel_length() const { return length_; }

  friend bool operator==(const SocketAddress& a, const SocketAddress& b);

 private:
  sockaddr_storage storage_ = {};
  socklen_t length_ = 0;
};

}  // namespace tunnel::core
