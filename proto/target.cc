#include "proto/target.h"

#include <algorithm>

#include "core/status.h"
#include "proto/codec_limits.h"
#include "proto/host_port.h"

namespace tunnel::proto {
namespace {

bool IsAlnum(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'); }
bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsHexDigit(char c) { return IsDigit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }

bool IsNameChar(char c) { return IsAlnum(c) || std::string_view("-._~!$&'()*+,;=").find(c) != std::string_view::npos; }

// Whether the last label reads as a number to some resolver (the "ends in a number" check of the WHATWG URL standard).
bool EndsInNumber(std::string_view name) {
  if (name.ends_with('.')) name.remove_suffix(1);
  const size_t dot = name.rfind('.');
  std::string_view label = dot == std::string_view::npos ? name : name.substr(dot + 1);
  if (label.starts_with("0x") || label.starts_with("0X")) {
    label.remove_prefix(2);
    return std::all_of(label.begin(), label.end(), IsHexDigit);
  }
  return !label.empty() && std::all_of(label.begin(), label.end(), IsDigit);
}

}  // namespace

std::string_view Describe(HostPortError error) {
  switch (error) {
    case HostPortError::kNone:
      return "ok";
    case HostPortError::kHost:
      return "the host must be a name or an IP address";
    case HostPortError::kBrackets:
      return "an IPv6 address must be in brackets, as [::1]";
    case HostPortError::kPort:
      return "the port must be a number from 1 to 65535";
  }
  return "";
}

HostPortError SplitHostPort(std::string_view text, PortRule rule, HostPort& out) {
  out = {};
  size_t host_end = 0;
  if (text.starts_with('[')) {
    const size_t close = text.find(']');
    if (close == std::string_view::npos) return HostPortError::kBrackets;
    out.host = text.substr(1, close - 1);
    const std::optional<IpAddress> address = ParseIpAddress(out.host);
    if (!address || !address->v6) return HostPortError::kBrackets;
    host_end = close + 1;
    if (host_end < text.size() && text[host_end] != ':') return HostPortError::kBrackets;
  } else {
    host_end = std::min(text.find(':'), text.size());
    if (host_end < text.size() && text.find(':', host_end + 1) != std::string_view::npos) {
      return HostPortError::kBrackets;
    }
    out.host = text.substr(0, host_end);
    if (!IsValidHost(out.host)) return HostPortError::kHost;
  }
  if (host_end == text.size()) return HostPortError::kNone;
  const std::string_view digits = text.substr(host_end + 1);
  if (digits.empty() || digits.size() > 5 || !std::all_of(digits.begin(), digits.end(), IsDigit)) {
    return HostPortError::kPort;
  }
  if (digits[0] == '0' && (digits.size() > 1 || rule == PortRule::kNotZero)) return HostPortError::kPort;
  unsigned port = 0;
  for (const char c : digits) port = port * 10 + static_cast<unsigned>(c - '0');
  if (port > 65535) return HostPortError::kPort;
  out.port = static_cast<uint16_t>(port);
  return HostPortError::kNone;
}

bool IsValidHost(std::string_view host) {
  if (host.empty() || host.size() > kMaxHostBytes) return false;
  if (ParseIpAddress(host)) return true;
  return std::all_of(host.begin(), host.end(), IsNameChar) && !EndsInNumber(host);
}

std::optional<HostPort> SplitHostPort(std::string_view text) {
  HostPort split;
  if (SplitHostPort(text, PortRule::kNotZero, split) != HostPortError::kNone) return std::nullopt;
  return split;
}

absl::StatusOr<Target> ParseTarget(std::string_view text, PortRule rule) {
  HostPort split;
  HostPortError error = SplitHostPort(text, rule, split);
  if (error == HostPortError::kNone && !split.port) error = HostPortError::kPort;
  if (error != HostPortError::kNone) {
    return InvalidArgument("\"{}\" is not an address: expected host:port or [IPv6]:port; {}", text, Describe(error));
  }
  return Target{.host = std::string(split.host), .port = *split.port};
}

bool IsUnixTarget(std::string_view text) {
  constexpr size_t kMaxPathBytes = 107;  // sun_path with its zero
  if (!text.starts_with("unix:/")) return false;
  const std::string_view path = UnixPathOf(text);
  return path.size() <= kMaxPathBytes && std::all_of(path.begin(), path.end(), [](char c) {
           return c > 0x20 && c < 0x7f && std::string_view(":,|[]").find(c) == std::string_view::npos;
         });
}

std::string_view UnixPathOf(std::string_view text) { return text.substr(kUnixPrefix.size()); }

std::string ToString(const Target& target) {
  if (target.port == 0 && IsUnixTarget(target.host)) return target.host;
  const bool brackets = target.host.find(':') != std::string::npos;
  return fmt::format("{}{}{}:{}", brackets ? "[" : "", target.host, brackets ? "]" : "", target.port);
}

}  // namespace tunnel::proto
