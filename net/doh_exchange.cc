#include "net/doh_exchange.h"

#include "proto/http1_grammar.h"

namespace tunnel::net {

absl::Status CheckDohHead(int status, std::string_view content_type) {
  // 414: the query was too long for a path. 400 and 404: what a server says that looks for the query in the body.
  const bool by_method = status == 400 || status == 404 || status == 405 || status == 414 || status == 501;
  if (by_method) return MakeStatus(absl::StatusCode::kUnimplemented, "HTTP status {}", status);
  if (status != 200) return Unavailable("HTTP status {}", status);
  const std::string_view media_type = proto::TrimOws(content_type.substr(0, content_type.find(';')));
  if (proto::EqualsIgnoreCase(media_type, kDnsMediaType)) return absl::OkStatus();
  if (media_type.empty()) return ProtocolError("an answer without a Content-Type");
  constexpr size_t kQuoted = 60;
  return ProtocolError("an answer of type {} instead of {}", media_type.substr(0, kQuoted), kDnsMediaType);
}

}  // namespace tunnel::net
