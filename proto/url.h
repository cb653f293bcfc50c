// The URLs that flags take: scheme://[user:password@]host[:port][/path]
#pragma once

#include <absl/status/statusor.h>

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>

#include "proto/target.h"

namespace tunnel::proto {

// Where https and wss are when no port is given (RFC 9110 4.2.2, RFC 6455 3).
inline constexpr uint16_t kHttpsPort = 443;

struct Credentials {
  std::string user;
  std::string password;

  bool operator==(const Credentials&) const = default;
};

struct Url {
  // Lower-case.
  std::string scheme;
  // Percent-decoded (RFC 3986 2.1). An absent password is an empty one.
  std::optional<Credentials> credentials;
  // A name, or an IP literal without brackets.
  std::string host;
  std::optional<uint16_t> port;
  // From the first `/` to the end, query included, as it was given; empty when there is none. Visible ASCII.
  std::string path;

  bool operator==(const Url&) const = default;
};

// Parses `text`, whose scheme must be one of `schemes` (lower-case). InvalidArgument says what is expected and quotes
// `text` without its credentials, so that the message may be logged. A fragment is refused.
absl::StatusOr<Url> ParseUrl(std::string_view text, std::initializer_list<std::string_view> schemes,
                             PortRule rule = PortRule::kNotZero);

// `text` with everything before an `@` in its authority replaced by `***`: what may be said about a URL that may hold
// a password, whether it parses or not.
std::string WithoutCredentials(std::string_view text);

// The URL as text, without its credentials: for logs.
std::string ToString(const Url& url);

// HOST[:PORT] as the Host field and `:authority` have it for https and wss: IPv6 in brackets, the default port left
// out (RFC 9110 4.2.3).
std::string HttpsAuthority(std::string_view host, uint16_t port);

}  // namespace tunnel::proto
