// What HTTP/1.1 and HTTP/2 share of asking a DNS question by DoH (RFC 8484 section 4.1).
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "core/status.h"
#include "core/time.h"

namespace tunnel::net {

// One question: GET https://AUTHORITY/PATH, the path with its dns= parameter, or POST with the query as the body.
struct DohRequest {
  std::string authority;  // host, and port unless it is 443
  std::string path;
  std::string body;  // empty: GET
};

inline constexpr std::string_view kDnsMediaType = "application/dns-message";

// The largest body: no DNS message is longer.
inline constexpr size_t kDohMaxBodyBytes = 65535;
// What else a server may send for one answer: heads, framing, SETTINGS, PINGs. Beyond the sum it is cut off.
inline constexpr size_t kDohMaxOverheadBytes = size_t{64} * 1024;
// Header fields of one HTTP/2 response, counted as RFC 9113 section 6.5.2 does.
inline constexpr size_t kDohMaxHeaderBytes = size_t{16} * 1024;
// How long a closing connection may take to hand over what it still has.
inline constexpr core::Duration kDohCloseLimit = std::chrono::seconds(1);

// Ok when a response with this status and Content-Type holds a DNS message. kUnimplemented where the status may mean
// that the server does not take questions by this method.
[[nodiscard]] absl::Status CheckDohHead(int status, std::string_view content_type);

}  // namespace tunnel::net
