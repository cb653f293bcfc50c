#include "proto/url.h"

#include <algorithm>

#include "core/status.h"
#include "proto/hex.h"
#include "proto/host_port.h"

namespace tunnel::proto {
namespace {

std::optional<std::string> PercentDecode(std::string_view text) {
  std::string decoded;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      decoded += text[i];
      continue;
    }
    if (text.size() - i < 3 || HexValue(text[i + 1]) < 0 || HexValue(text[i + 2]) < 0) return std::nullopt;
    decoded += static_cast<char>(HexValue(text[i + 1]) * 16 + HexValue(text[i + 2]));
    i += 2;
  }
  return decoded;
}

bool IsVisible(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c > 0x20 && c < 0x7f; });
}

std::string Lower(std::string_view text) {
  std::string lower(text);
  for (char& c : lower) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + ('a' - 'A'));
  }
  return lower;
}

absl::Status Refuse(std::string_view text, std::initializer_list<std::string_view> schemes, std::string_view why) {
  std::string expected;
  for (const std::string_view scheme : schemes) {
    fmt::format_to(std::back_inserter(expected), "{}{}://", expected.empty() ? "" : " or ", scheme);
  }
  return InvalidArgument("\"{}\" is not a URL of the form {}host:port/path: {}", WithoutCredentials(text), expected,
                         why);
}

// IPv6 in brackets (RFC 3986 3.2.2).
std::string Bracketed(std::string_view host) {
  return host.find(':') == std::string_view::npos ? std::string(host) : fmt::format("[{}]", host);
}

}  // namespace

absl::StatusOr<Url> ParseUrl(std::string_view text, std::initializer_list<std::string_view> schemes, PortRule rule) {
  const size_t scheme_end = text.find("://");
  if (scheme_end == std::string_view::npos) return Refuse(text, schemes, "the scheme is missing");
  Url url{.scheme = Lower(text.substr(0, scheme_end))};
  if (std::find(schemes.begin(), schemes.end(), url.scheme) == schemes.end()) {
    return Refuse(text, schemes, "the scheme is another one");
  }
  if (!IsVisible(text) || text.find('#') != std::string_view::npos) {
    return Refuse(text, schemes, "spaces, control characters, non-ASCII and # are not allowed");
  }
  std::string_view authority = text.substr(scheme_end + 3);
  const size_t authority_end = authority.find_first_of("/?");
  if (authority_end != std::string_view::npos) {
    url.path = std::string(authority.substr(authority_end));
    if (url.path[0] == '?') return Refuse(text, schemes, "a query needs a path before it");
    authority = authority.substr(0, authority_end);
  }
  if (const size_t at = authority.find('@'); at != std::string_view::npos) {
    const std::string_view userinfo = authority.substr(0, at);
    authority = authority.substr(at + 1);
    if (authority.find('@') != std::string_view::npos) {
      return Refuse(text, schemes, "an @ in the user or the password must be written %40");
    }
    const size_t colon = userinfo.find(':');
    std::optional<std::string> user = PercentDecode(userinfo.substr(0, colon));
    std::optional<std::string> password =
        PercentDecode(colon == std::string_view::npos ? std::string_view() : userinfo.substr(colon + 1));
    if (!user || !password) return Refuse(text, schemes, "a % must be followed by two hexadecimal digits");
    if (user->empty()) return Refuse(text, schemes, "the user before @ is empty");
    url.credentials = Credentials{.user = *std::move(user), .password = *std::move(password)};
  }
  HostPort split;
  if (const HostPortError error = SplitHostPort(authority, rule, split); error != HostPortError::kNone) {
    return Refuse(text, schemes, Describe(error));
  }
  url.host = std::string(split.host);
  url.port = split.port;
  return url;
}

std::string WithoutCredentials(std::string_view text) {
  const size_t scheme_end = text.find("://");
  const size_t start = scheme_end == std::string_view::npos ? 0 : scheme_end + 3;
  // To the last @ of all: where the authority ends is unsure in a URL that does not parse.
  const size_t at = text.rfind('@');
  if (at == std::string_view::npos || at < start) return std::string(text);
  return fmt::format("{}***{}", text.substr(0, start), text.substr(at));
}

std::string ToString(const Url& url) {
  return fmt::format("{}://{}{}{}", url.scheme, Bracketed(url.host), url.port ? fmt::format(":{}", *url.port) : "",
                     url.path);
}

std::string HttpsAuthority(std::string_view host, uint16_t port) {
  return port == kHttpsPort ? Bracketed(host) : fmt::format("{}:{}", Bracketed(host), port);
}

}  // namespace tunnel::proto
