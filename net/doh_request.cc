#include "net/doh_request.h"

#include <algorithm>
#include <utility>

#include "core/check.h"
#include "net/dns_publisher.h"
#include "net/doh_exchange.h"
#include "proto/base64.h"
#include "proto/http1_builder.h"
#include "proto/http1_grammar.h"

namespace tunnel::net {
namespace {

constexpr size_t kMaxDohQueryText = (kMaxDohQueryBytes * 4 + 2) / 3;

std::string_view ReasonOf(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 405:
      return "Method Not Allowed";
    case 411:
      return "Length Required";
    case 413:
      return "Content Too Large";
    case 415:
      return "Unsupported Media Type";
    case 429:
      return "Too Many Requests";
    default:
      return "Bad Request";
  }
}

IncomingDohQuery ParsePost(std::string_view content_type, std::optional<uint64_t> body_bytes) {
  const std::string_view media_type = proto::TrimOws(content_type.substr(0, content_type.find(';')));
  if (!proto::EqualsIgnoreCase(media_type, kDnsMediaType)) return {.status = 415};
  if (!body_bytes.has_value()) return {.status = 400};
  if (*body_bytes > kMaxDohQueryBytes) return {.status = 413};
  return {.query_is_body = true};
}

}  // namespace

bool IsDohPath(std::string_view path) { return path.substr(0, path.find('?')) == kDohPath; }

std::optional<std::vector<uint8_t>> FindDnsParameter(std::string_view path, bool& too_long) {
  constexpr std::string_view kName = "dns=";
  too_long = false;
  const size_t query = path.find('?');
  if (query == std::string_view::npos) return std::nullopt;
  std::optional<std::string_view> value;
  for (std::string_view rest = path.substr(query + 1); !rest.empty();) {
    const std::string_view parameter = rest.substr(0, rest.find('&'));
    rest.remove_prefix(std::min(rest.size(), parameter.size() + 1));
    if (!parameter.starts_with(kName)) continue;
    if (value.has_value()) return std::nullopt;
    value = parameter.substr(kName.size());
  }
  if (!value.has_value()) return std::nullopt;
  too_long = value->size() > kMaxDohQueryText;
  if (too_long) return std::nullopt;
  return proto::Base64UrlDecode(*value);
}

IncomingDohQuery ParseDohRequest(std::string_view method, std::string_view path, std::string_view content_type,
                                 std::optional<uint64_t> body_bytes) {
  if (method == "POST") return ParsePost(content_type, body_bytes);
  if (method != "GET" && method != "HEAD") return {.status = 405};
  // A body here has no meaning, and taking it for the next request would be worse.
  if (body_bytes.has_value()) return {.status = 400};
  bool too_long = false;
  std::optional<std::vector<uint8_t>> query = FindDnsParameter(path, too_long);
  if (too_long) return {.status = 413};
  if (!query.has_value()) return {.status = 400};
  return {.query = *std::move(query)};
}

IncomingDohQuery ParseDohRequest(const proto::RequestHead& head) {
  std::optional<uint64_t> body_bytes;
  if (head.framing.kind != proto::BodyFraming::Kind::kNone) body_bytes = head.framing.length;
  return ParseDohRequest(head.method, head.path, head.fields.Find("content-type").value_or(""), body_bytes);
}

std::vector<std::pair<std::string_view, std::string>> DohReplyFields(const DohReply& reply) {
  std::vector<std::pair<std::string_view, std::string>> fields;
  if (reply.status == 200) {
    fields.emplace_back("Content-Type", kDnsMediaType);
    // All records have this TTL (RFC 8484 section 5.1).
    fields.emplace_back("Cache-Control", fmt::format("max-age={}", kPublishedTtlSeconds));
  } else if (!reply.body.empty()) {
    fields.emplace_back("Content-Type", "text/plain; charset=utf-8");
  }
  if (reply.status == 405) fields.emplace_back("Allow", "GET, HEAD, POST");
  if (reply.status == 429) fields.emplace_back("Retry-After", std::to_string(reply.retry_after_seconds));
  fields.emplace_back("Content-Length", std::to_string(reply.body.size()));
  return fields;
}

std::string BuildDohResponse(const DohReply& reply, bool head_only, bool close) {
  proto::HttpHeadBuilder builder = proto::HttpHeadBuilder::Response(reply.status, ReasonOf(reply.status));
  for (const auto& [name, value] : DohReplyFields(reply)) builder.Add(name, value);
  if (close) builder.Add("Connection", "close");
  absl::StatusOr<std::string> response = builder.Finish();
  TUNNEL_CHECK(response.ok());
  if (!head_only) response->append(reinterpret_cast<const char*>(reply.body.data()), reply.body.size());
  return *std::move(response);
}

}  // namespace tunnel::net
