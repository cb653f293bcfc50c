#include "proto/http1_forward.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "proto/http1_builder.h"
#include "proto/http1_grammar.h"

namespace tunnel::proto {
namespace {

bool IsOneOf(std::string_view name, std::span<const std::string_view> names) {
  return std::any_of(names.begin(), names.end(),
                     [name](std::string_view candidate) { return EqualsIgnoreCase(name, candidate); });
}

bool StartsWithIgnoreCase(std::string_view text, std::string_view prefix) {
  return text.size() >= prefix.size() && EqualsIgnoreCase(text.substr(0, prefix.size()), prefix);
}

// By its name alone.
bool IsOfOneHop(std::string_view name) {
  static constexpr std::array<std::string_view, 5> kNames = {"connection", "keep-alive", "te", "transfer-encoding",
                                                             "upgrade"};
  return IsOneOf(name, kNames) || StartsWithIgnoreCase(name, "proxy-");
}

void AddFraming(HttpHeadBuilder& builder, const BodyFraming& framing) {
  if (framing.kind == BodyFraming::Kind::kLength) builder.Add("Content-Length", fmt::format("{}", framing.length));
  if (framing.kind == BodyFraming::Kind::kChunked) builder.Add("Transfer-Encoding", "chunked");
}

bool IsFraming(std::string_view name) {
  static constexpr std::array<std::string_view, 2> kNames = {"content-length", "transfer-encoding"};
  return IsOneOf(name, kNames);
}

// The values of all Upgrade fields, as one list.
std::string UpgradeList(const HeaderFields& fields) {
  std::string list;
  for (const HeaderField& field : fields.all()) {
    if (EqualsIgnoreCase(field.name, "upgrade")) list += fmt::format("{}{}", list.empty() ? "" : ", ", field.value);
  }
  return list;
}

}  // namespace

std::string_view AuthorityOf(const RequestHead& head) {
  const std::string_view rest = head.target.substr(head.scheme.size() + std::string_view("://").size());
  return rest.substr(0, rest.size() - head.path.size());
}

bool AsksToUpgrade(const RequestHead& head) {
  return head.minor_version == 1 && head.fields.Find("upgrade").has_value() &&
         head.fields.HasToken("connection", "upgrade");
}

bool MayBeSentAgain(const RequestHead& head) {
  static constexpr std::array<std::string_view, 6> kIdempotent = {"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"};
  return head.framing.kind == BodyFraming::Kind::kNone &&
         std::find(kIdempotent.begin(), kIdempotent.end(), head.method) != kIdempotent.end();
}

std::optional<uint64_t> MaxForwards(const RequestHead& head) {
  if (head.method != "TRACE" && head.method != "OPTIONS") return std::nullopt;
  const std::string_view value = head.fields.Find("max-forwards").value_or("");
  // Ten digits are more hops than there are; the field is ignored where it says nothing.
  if (value.empty() || value.size() > 10) return std::nullopt;
  uint64_t number = 0;
  for (const char c : value) {
    if (c < '0' || c > '9') return std::nullopt;
    number = number * 10 + static_cast<uint64_t>(c - '0');
  }
  return number;
}

absl::StatusOr<std::string> ForwardedRequest(const RequestHead& head, bool close) {
  std::string path(head.path);
  if (path.empty()) {
    path = head.method == "OPTIONS" ? "*" : "/";  // RFC 9112 3.2.1 and 3.2.4
  } else if (path[0] == '?') {
    path.insert(0, "/");
  }
  auto builder = HttpHeadBuilder::Request(head.method, path);
  builder.Add("Host", AuthorityOf(head));
  const bool upgrade = AsksToUpgrade(head);
  const std::optional<uint64_t> max_forwards = MaxForwards(head);
  for (const HeaderField& field : head.fields.all()) {
    if (IsFraming(field.name)) {
      AddFraming(builder, head.framing);
    } else if (EqualsIgnoreCase(field.name, "max-forwards") && max_forwards.has_value()) {
      builder.Add(field.name, fmt::format("{}", std::max<uint64_t>(*max_forwards, 1) - 1));
    } else if (!EqualsIgnoreCase(field.name, "host") && !IsOfOneHop(field.name) &&
               !head.fields.HasToken("connection", field.name) &&
               !(head.minor_version == 0 && EqualsIgnoreCase(field.name, "expect"))) {
      builder.Add(field.name, field.value);
    }
  }
  if (upgrade) {
    builder.Add("Connection", "Upgrade").Add("Upgrade", UpgradeList(head.fields));
  } else if (close) {
    builder.Add("Connection", "close");
  }
  return builder.Finish();
}

absl::StatusOr<std::string> ForwardedResponse(const ResponseHead& head, const ResponseForwarding& how) {
  auto builder = HttpHeadBuilder::Response(head.status, head.reason);
  // RFC 9110 8.6: neither has a Content-Length. On HEAD and 304 it tells of the body that is not there.
  const bool no_length = head.status < 200 || head.status == 204;
  for (const HeaderField& field : head.fields.all()) {
    if (EqualsIgnoreCase(field.name, "content-length")) {
      if (!no_length) builder.Add(field.name, field.value);
    } else if (EqualsIgnoreCase(field.name, "transfer-encoding")) {
      if (how.client_minor_version == 1) AddFraming(builder, head.framing);
    } else if (!IsOfOneHop(field.name) && !head.fields.HasToken("connection", field.name)) {
      builder.Add(field.name, field.value);
    }
  }
  if (head.status == 101) {
    builder.Add("Connection", "Upgrade").Add("Upgrade", UpgradeList(head.fields));
  } else if (how.close && head.status >= 200) {
    builder.Add("Connection", "close");
  }
  return builder.Finish();
}

std::string ForwardedTrailers(std::string_view trailers) {
  static constexpr std::array<std::string_view, 12> kNotHere = {
      "content-length", "host",         "trailer",       "content-encoding", "content-type",     "content-range",
      "authorization",  "max-forwards", "cache-control", "expect",           "www-authenticate", "set-cookie"};
  std::string kept;
  while (!trailers.empty()) {
    const size_t end = std::min(trailers.find("\r\n"), trailers.size());
    const std::string_view line = trailers.substr(0, end);
    trailers.remove_prefix(std::min(end + 2, trailers.size()));
    const std::string_view name = line.substr(0, line.find(':'));
    if (line.empty() || IsOfOneHop(name) || IsOneOf(name, kNotHere)) continue;
    kept += fmt::format("{}\r\n", line);
  }
  return kept;
}

}  // namespace tunnel::proto
