// Where a stream goes: a host and a port, as flags, SOCKS5, HTTP and the legacy protocol name it.
#pragma once

#include <absl/status/statusor.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "proto/ip_address.h"

namespace tunnel::proto {

struct Target {
  // A name, or an IP literal without brackets, which passes IsValidHost wherever a Target comes from a parser of ours;
  // or a Unix socket (IsUnixTarget).
  std::string host;
  uint16_t port = 0;

  bool operator==(const Target&) const = default;
  // Clients choose targets, so they are hashed only by abseil's hash, which is seeded per process.
  template <typename H>
  friend H AbslHashValue(H state, const Target& target) {
    return H::combine(std::move(state), target.host, target.port);
  }
};

// A Unix socket of the server's own host as a target: `unix:/path` stands in Target::host, with port 0. No name and no
// address reads like it, and IsValidHost refuses it, so that only what knows of Unix sockets lets it through.
inline constexpr std::string_view kUnixPrefix = "unix:";
// Whether `text` is `unix:` and an absolute path of at most 107 bytes (what the kernel takes) of visible ASCII without
// `:`, `,`, `|`, `[` and `]`, which have a meaning around it.
bool IsUnixTarget(std::string_view text);
// The path within `text`, for which IsUnixTarget is true.
std::string_view UnixPathOf(std::string_view text);

// Listeners may ask the kernel for a port; nobody can connect to port 0.
enum class PortRule { kNotZero, kMayBeZero };

// A split `host[:port]`, viewing the text it came from.
struct HostPort {
  // Without brackets.
  std::string_view host;
  std::optional<uint16_t> port;
};

// True for an IP literal without brackets and for a name of 1 to 255 bytes of RFC 3986's unreserved and sub-delims
// characters: no control characters, spaces, non-ASCII, `/`, `@`, `|`, `%` or brackets. A name whose last label is a
// number but which is no dotted quad (`127.1`, `0x7f000001`, `2130706433`) is refused: no such name exists in the DNS,
// and resolvers that read it as an address would slip past rules about addresses.
bool IsValidHost(std::string_view host);

// Splits and checks `host`, `host:port`, `[v6]` or `[v6]:port` without allocating; views point into `text`.
// nullopt when the host is not valid, IPv6 is not in brackets, or the port is not 1 to 65535 in plain decimal.
std::optional<HostPort> SplitHostPort(std::string_view text);

// Parses `host:port` or `[v6]:port`. InvalidArgument quotes `text` and says what is expected.
absl::StatusOr<Target> ParseTarget(std::string_view text, PortRule rule = PortRule::kNotZero);

// `host:port`, with brackets around an IPv6 host; a Unix socket as it is.
std::string ToString(const Target& target);

}  // namespace tunnel::proto
