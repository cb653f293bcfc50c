// The server's side of DoH over HTTP/1.1 (RFC 8484 section 4.1): which requests hold a DNS query, and the answers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/status.h"
#include "proto/http1.h"

namespace tunnel::net {

inline constexpr std::string_view kDohPath = "/dns-query";
// The longest query: a name, EDNS(0) and its padding are well below.
inline constexpr size_t kMaxDohQueryBytes = 4096;

struct IncomingDohQuery {
  // 200, or what the request is to be answered with: 400 (no dns= parameter, or one that is not base64url), 405 (not
  // GET, HEAD or POST), 413 (longer than kMaxDohQueryBytes), 415 (POST of another type).
  int status = 200;
  // With 200: the query, unless it is the body.
  std::vector<uint8_t> query;
  // With 200: read the body, as the head's framing says and up to kMaxDohQueryBytes; it is the query. When it proves
  // longer, answer 413.
  bool query_is_body = false;
};

// Whether the path of a request, without its query, is kDohPath.
[[nodiscard]] bool IsDohPath(std::string_view path);

// Looks at a request whose path is kDohPath. `body_bytes`: nullopt without a body, 0 when its length is not known yet.
[[nodiscard]] IncomingDohQuery ParseDohRequest(std::string_view method, std::string_view path,
                                               std::string_view content_type, std::optional<uint64_t> body_bytes);
[[nodiscard]] IncomingDohQuery ParseDohRequest(const proto::RequestHead& head);

// The value of the parameter `dns` in "PATH?QUERY", decoded, or nullopt: missing, twice, not base64url, or too long
// (`too_long` is then true).
[[nodiscard]] std::optional<std::vector<uint8_t>> FindDnsParameter(std::string_view path, bool& too_long);

// An answer, whatever the HTTP it goes out by.
struct DohReply {
  int status = 200;
  std::vector<uint8_t> body;  // a DNS message with 200, text otherwise
  // With 429: in how many seconds to ask again.
  uint32_t retry_after_seconds = 0;
};
// Its header fields, without those that are about the connection.
[[nodiscard]] std::vector<std::pair<std::string_view, std::string>> DohReplyFields(const DohReply& reply);

// The whole response of HTTP/1.1, head and body; `head_only` leaves the body out, for HEAD. `close` says that the
// connection ends with it.
[[nodiscard]] std::string BuildDohResponse(const DohReply& reply, bool head_only, bool close);

}  // namespace tunnel::net
