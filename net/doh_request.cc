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
    case 413:
      return "Content Too Large";
    case 415:
      return "Unsupported Media Type";
    default:
      return "Bad Request";
  }
}

IncomingDohQuery ParsePost(const proto::RequestHead& head) {
  const std::string_view content_type = head.fields.Find("content-type").value_or("");
  const std::string_view media_type = proto::TrimOws(content_type.substr(0, content_type.find(';')));
  if (!proto::EqualsIgnoreCase(media_type, kDnsMediaType)) return {.status = 415};
  if (head.framing.kind == proto::BodyFraming::Kind::kNone) return {.status = 400};
  if (head.framing.kind == proto::BodyFraming::Kind::kLength && head.framing.length > kMaxDohQueryBytes) {
    return {.status = 413};
  }
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

IncomingDohQuery ParseDohRequest(const proto::RequestHead& head) {
  if (head.method == "POST") return ParsePost(head);
  if (head.method != "GET" && head.method != "HEAD") return {.status = 405};
  // A body here has no meaning, and taking it for the next request would be worse.
  if (head.framing.kind != proto::BodyFraming::Kind::kNone) return {.status = 400};
  bool too_long = false;
  std::optional<std::vector<uint8_t>> query = FindDnsParameter(head.path, too_long);
  if (too_long) return {.status = 413};
  if (!query.has_value()) return {.status = 400};
  return {.query = *std::move(query)};
}

std::string BuildDohResponse(int status, std::span<const uint8_t> dns_response, bool head_only, bool close) {
  proto::HttpHeadBuilder builder = proto::HttpHeadBuilder::Response(status, ReasonOf(status));
  if (status == 200) {
    builder.Add("Content-Type", kDnsMediaType).Add("Cache-Control", fmt::format("max-age={}", kPublishedTtlSeconds));
  }
  if (status == 405) builder.Add("Allow", "GET, HEAD, POST");
  builder.Add("Content-Length", std::to_string(dns_response.size()));
  if (close) builder.Add("Connection", "close");
  absl::StatusOr<std::string> response = builder.Finish();
  TUNNEL_CHECK(response.ok());
  if (!head_only) response->append(reinterpret_cast<const char*>(dns_response.data()), dns_response.size());
  return *std::move(response);
}

}  // namespace tunnel::net
