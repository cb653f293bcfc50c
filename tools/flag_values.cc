#include "tools/flag_values.h"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "proto/target.h"
#include "proto/url.h"
#include "tools/flag_parser.h"

namespace tunnel::tools {
namespace {

// RFC 1929 section 2: one byte of length.
constexpr size_t kCredentialLimitBytes = 255;

std::string QuotedUrl(std::string_view text) {
  // proto looks for credentials after the scheme; what stands before one may still be a password in the wrong place.
  const size_t at = text.rfind('@');
  const size_t scheme_end = text.find("://");
  if (at != std::string_view::npos && scheme_end != std::string_view::npos && at < scheme_end) return "\"***\"";
  return Quoted(proto::WithoutCredentials(text));
}

// Puts 0.0.0.0 where `scheme://[user:password@]:port` has no host, as Go listens on ":port".
std::string WithWildcardHost(std::string_view text) {
  const size_t scheme_end = text.find("://");
  if (scheme_end == std::string_view::npos) return std::string(text);
  const size_t authority = scheme_end + 3;
  const size_t authority_end = std::min(text.find_first_of("/?#", authority), text.size());
  const size_t at = text.substr(0, authority_end).rfind('@');
  const size_t host = at == std::string_view::npos || at < authority ? authority : at + 1;
  if (host >= authority_end || text[host] != ':') return std::string(text);
  return fmt::format("{}0.0.0.0{}", text.substr(0, host), text.substr(host));
}

std::optional<core::SocketAddress> ListenAddress(const std::string& host, uint16_t port) {
  return core::SocketAddress::Parse(LowerCase(host) == "localhost" ? "127.0.0.1" : host, port);
}

absl::Status NoListenAddress(std::string_view text) {
  return InvalidArgument("{}: expected an IP address, localhost or nothing before the port to listen on",
                         QuotedUrl(text));
}

bool HasControlCharacters(std::string_view text) {
  return std::ranges::any_of(text, [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; });
}

absl::Status CheckCredentials(std::string_view text, const proto::Credentials& credentials) {
  const auto& [user, password] = credentials;
  if (password.empty()) return InvalidArgument("{}: expected a password, as user:password@", QuotedUrl(text));
  if (user.size() > kCredentialLimitBytes || password.size() > kCredentialLimitBytes ||
      user.find(':') != std::string::npos || HasControlCharacters(user) || HasControlCharacters(password)) {
    return InvalidArgument(
        "{}: expected a user (without a colon) and a password of at most {} bytes, without control characters",
        QuotedUrl(text), kCredentialLimitBytes);
  }
  return absl::OkStatus();
}

std::optional<core::SocketAddress> UnixAddress(std::string_view text) {
  if (!proto::IsUnixTarget(text)) return std::nullopt;
  return core::SocketAddress::Unix(proto::UnixPathOf(text));
}

absl::Status NoUnixPath(std::string_view text, std::string_view form) {
  return InvalidArgument(
      "{}: expected {} with an absolute path of at most {} visible characters, none of them a colon, comma, bar or "
      "bracket",
      QuotedUrl(text), form, core::kMaxUnixPathBytes);
}

// Of `scheme://[user:password@]unix:/path[:/path-of-the-url]` the socket, and the URL with a stand-in for it, so that
// the rest is read like that of any other URL. The socket's path goes to the next colon.
struct UnixUrl {
  std::string_view socket;  // "unix:/path"
  std::string url;
};

std::optional<UnixUrl> SplitUnixUrl(std::string_view text) {
  const size_t scheme_end = text.find("://");
  if (scheme_end == std::string_view::npos) return std::nullopt;
  size_t start = scheme_end + 3;
  // Credentials hold no slash, a socket's path begins with one.
  const size_t at = text.substr(0, std::min(text.find('/', start), text.size())).rfind('@');
  if (at != std::string_view::npos && at >= start) start = at + 1;
  if (!text.substr(start).starts_with(proto::kUnixPrefix)) return std::nullopt;
  const size_t end = std::min(text.find(':', start + proto::kUnixPrefix.size()), text.size());
  const std::string_view path = end == text.size() ? std::string_view() : text.substr(end + 1);
  if (!path.empty() && path[0] != '/') return UnixUrl{};  // no URL
  return UnixUrl{.socket = text.substr(start, end - start),
                 .url = fmt::format("{}localhost:1{}", text.substr(0, start), path)};
}

absl::Status ParseUrlListen(std::string_view text, std::vector<net::ListenSpec>& listen) {
  const std::optional<UnixUrl> unix_url = SplitUnixUrl(text);
  const absl::StatusOr<proto::Url> url = proto::ParseUrl(unix_url ? unix_url->url : WithWildcardHost(text),
                                                         {"wss", "ws", "proxy"}, proto::PortRule::kMayBeZero);
  if (unix_url && (!url.ok() || !UnixAddress(unix_url->socket))) {
    return NoUnixPath(text,
                      "wss://unix:/socket[:/path], ws://unix:/socket[:/path] or "
                      "proxy://[user:password@]unix:/socket");
  }
  if (!url.ok()) return url.status();
  net::ListenSpec spec{.description = proto::WithoutCredentials(text)};
  if (!url->port) return InvalidArgument("{}: expected a port to listen on", QuotedUrl(text));
  const std::optional<core::SocketAddress> address =
      unix_url ? UnixAddress(unix_url->socket) : ListenAddress(url->host, *url->port);
  if (!address) return NoListenAddress(text);
  spec.address = *address;
  if (url->scheme == "proxy") {
    spec.kind = net::ListenKind::kProxy;
    if (!url->path.empty() && url->path != "/") {
      return InvalidArgument("{}: expected proxy://[user:password@]ip:port, without a path", QuotedUrl(text));
    }
    if (url->credentials) {
      TUNNEL_RETURN_IF_ERROR(CheckCredentials(text, *url->credentials));
      spec.user = url->credentials->user;
      spec.password = url->credentials->password;
    }
  } else {
    spec.kind = url->scheme == "wss" ? net::ListenKind::kServerTls : net::ListenKind::kServerPlain;
    if (url->credentials) {
      return InvalidArgument("{}: expected no user or password; clients are told apart by -token", QuotedUrl(text));
    }
    if (url->path.find('?') != std::string::npos) {
      return InvalidArgument("{}: expected a path without a query", QuotedUrl(text));
    }
    spec.path = url->path.empty() ? "/" : url->path;
  }
  listen.push_back(std::move(spec));
  return absl::OkStatus();
}

// Examples of LISTEN/TARGET.
std::string_view ForwardExample(net::ListenKind kind) {
  if (kind == net::ListenKind::kUdpForward) return "127.0.0.1:5353/9.9.9.9:53";
  return kind == net::ListenKind::kReverse ? "127.0.0.1:2222/127.0.0.1:22" : "127.0.0.1:2222/host:22";
}

// One rule of tcp://, udp://, which knows no Unix sockets, or rtcp://, which listens on none.
absl::Status ParseForward(std::string_view item, std::string_view scheme, net::ListenKind kind,
                          std::vector<net::ListenSpec>& listen) {
  const bool udp = kind == net::ListenKind::kUdpForward;
  const bool listens_on_unix = kind == net::ListenKind::kForward && item.starts_with(proto::kUnixPrefix);
  // The path of a socket goes to the next colon; the slash that parts it from the target is behind that.
  const size_t path_end = listens_on_unix ? item.find(':', proto::kUnixPrefix.size()) : 0;
  const size_t slash = path_end == std::string_view::npos ? path_end : item.find('/', path_end);
  if (slash == std::string_view::npos || (listens_on_unix && slash != path_end + 1)) {
    return InvalidArgument("{}: expected {}://LISTEN/TARGET, as {}{}", QuotedUrl(item), scheme, ForwardExample(kind),
                           listens_on_unix ? " or unix:/socket:/host:22" : "");
  }
  std::string_view listen_text = item.substr(0, slash);
  const std::string_view target_text = item.substr(slash + 1);
  std::optional<core::SocketAddress> address;
  if (listens_on_unix) {
    address = UnixAddress(item.substr(0, path_end));
    if (!address) return NoUnixPath(item, "unix:/socket before the colon");
    listen_text = "localhost:1";
  }
  const absl::StatusOr<proto::Target> where = proto::ParseTarget(
      listen_text.starts_with(':') ? fmt::format("0.0.0.0{}", listen_text) : std::string(listen_text),
      proto::PortRule::kMayBeZero);
  if (!where.ok()) {
    return InvalidArgument("{}: expected an address to listen on, ip:port, before the slash", QuotedUrl(item));
  }
  if (!listens_on_unix) address = ListenAddress(where->host, where->port);
  if (!address) return NoListenAddress(item);
  absl::StatusOr<proto::Target> target = proto::ParseTarget(target_text);
  if (!udp && target_text.starts_with(proto::kUnixPrefix)) {
    if (!proto::IsUnixTarget(target_text)) return NoUnixPath(item, "unix:/socket after the slash");
    target = proto::Target{.host = std::string(target_text), .port = 0};
  }
  if (!target.ok()) return InvalidArgument("{}: expected a target, host:port, after the slash", QuotedUrl(item));
  listen.push_back({.kind = kind,
                    .address = *address,
                    .target = *std::move(target),
                    .description = fmt::format("{}://{}", scheme, item)});
  return absl::OkStatus();
}

// `-f` of a server: the SOCKS5 proxy it goes out through.
absl::Status ParseOutbound(std::string_view text, net::Config& config) {
  constexpr uint16_t kSocksPort = 1080;  // RFC 1928 section 3
  const std::optional<UnixUrl> unix_url = SplitUnixUrl(text);
  absl::StatusOr<proto::Url> url = proto::ParseUrl(unix_url ? unix_url->url : std::string(text), {"socks5"});
  net::OutboundProxy proxy{.description = proto::WithoutCredentials(text)};
  if (unix_url) {
    const std::optional<core::SocketAddress> address = UnixAddress(unix_url->socket);
    if (!url.ok() || !address) return NoUnixPath(text, "socks5://[user:password@]unix:/socket");
    proxy.unix_socket = *address;
  }
  if (!url.ok()) return url.status();
  if (!url->path.empty() && url->path != "/") {
    return InvalidArgument("{}: expected socks5://[user:password@]host:port, without a path", QuotedUrl(text));
  }
  if (!IsDomainName(url->host) && !proto::ParseIpAddress(url->host)) {
    return InvalidArgument("{}: expected the host to be a domain name or an IP address", QuotedUrl(text));
  }
  if (!unix_url) proxy.address = {.host = LowerCase(url->host), .port = url->port.value_or(kSocksPort)};
  if (url->credentials) {
    TUNNEL_RETURN_IF_ERROR(CheckCredentials(text, *url->credentials));
    proxy.credentials = std::move(url->credentials);
  }
  config.outbound = std::move(proxy);
  return absl::OkStatus();
}

std::optional<uint16_t> ParsePort(std::string_view text) {
  const absl::StatusOr<unsigned> number = ParseNumber(text, 1, 65535);
  if (!number.ok()) return std::nullopt;
  return static_cast<uint16_t>(*number);
}

// Cuts `rule` into the host and the ports after its colon, nullopt when there are none. Brackets stay.
struct RuleParts {
  std::string_view host;
  std::optional<std::string_view> ports;
};

std::optional<RuleParts> SplitRule(std::string_view rule) {
  const size_t start = rule.starts_with('[') ? rule.find(']') : 0;
  if (start == std::string_view::npos) return std::nullopt;
  const size_t colon = rule.find(':', start);
  if (colon == std::string_view::npos) return RuleParts{.host = rule, .ports = std::nullopt};
  return RuleParts{.host = rule.substr(0, colon), .ports = rule.substr(colon + 1)};
}

bool SetRulePorts(std::string_view ports, net::TargetRule& rule) {
  const size_t dash = ports.find('-');
  const std::optional<uint16_t> first = ParsePort(ports.substr(0, dash));
  const std::optional<uint16_t> last = dash == std::string_view::npos ? first : ParsePort(ports.substr(dash + 1));
  if (!first || !last || *first > *last) return false;
  rule.first_port = *first;
  rule.last_port = *last;
  return true;
}

bool SetRuleHost(std::string_view host, net::TargetRule& rule) {
  if (host == "*") {
    rule.kind = net::TargetRule::Kind::kAny;
    return true;
  }
  if (host.starts_with("*.")) {
    host.remove_prefix(2);
    rule.kind = net::TargetRule::Kind::kSuffix;
    rule.name = LowerCase(host);
    return IsDomainName(host);
  }
  if (IsDomainName(host)) {
    rule.kind = net::TargetRule::Kind::kName;
    rule.name = LowerCase(host);
    return true;
  }
  std::string network(host);
  if (host.starts_with('[')) {
    // `[fd00::]/8` and `[fd00::/8]` both say what they mean.
    const size_t close = host.find(']');
    const std::string_view inside = host.substr(1, close - 1);
    const std::string_view behind = host.substr(close + 1);
    if (inside.find(':') == std::string_view::npos || (!behind.empty() && behind[0] != '/')) return false;
    network = fmt::format("{}{}", inside, behind);
  }
  const absl::StatusOr<proto::Cidr> cidr = proto::ParseCidr(network);
  if (!cidr.ok()) return false;
  rule.kind = net::TargetRule::Kind::kNetwork;
  rule.network = *cidr;
  return true;
}

}  // namespace

absl::StatusOr<std::vector<std::string_view>> SplitList(std::string_view text) {
  std::vector<std::string_view> items;
  for (std::string_view rest = text;;) {
    const size_t comma = rest.find(',');
    std::string_view item = rest.substr(0, comma);
    while (item.starts_with(' ')) item.remove_prefix(1);
    while (item.ends_with(' ')) item.remove_suffix(1);
    if (item.empty()) {
      return text.empty() ? InvalidArgument("\"\": expected a value")
                          : InvalidArgument("{}: expected something on both sides of every comma", QuotedUrl(text));
    }
    items.push_back(item);
    if (comma == std::string_view::npos) return items;
    rest.remove_prefix(comma + 1);
  }
}

absl::StatusOr<unsigned> ParseNumber(std::string_view text, unsigned least, unsigned most) {
  uint64_t number = 0;
  const bool plain = !text.empty() && text.size() <= 9 && (text[0] != '0' || text.size() == 1) &&
                     std::ranges::all_of(text, [](char c) { return c >= '0' && c <= '9'; });
  if (plain) {
    for (const char c : text) number = number * 10 + static_cast<unsigned>(c - '0');
  }
  if (!plain || number < least || number > most) {
    return InvalidArgument("{}: expected a number from {} to {}", Quoted(text), least, most);
  }
  return static_cast<unsigned>(number);
}

absl::StatusOr<std::chrono::seconds> ParseDuration(std::string_view text) {
  using std::chrono::seconds;
  constexpr std::array<std::pair<char, unsigned>, 4> kUnits = {{{'d', 86400}, {'h', 3600}, {'m', 60}, {'s', 1}}};
  constexpr unsigned kMost = 10 * 366 * 86400U;
  absl::Status wrong = InvalidArgument("{}: expected a time as 24h, 90m, 30s or 1h30m, or off", Quoted(text));
  if (text == "off" || text == "0") return seconds(0);
  uint64_t total = 0;
  auto unit = kUnits.begin();
  std::string_view rest = text;
  if (rest.empty()) return wrong;
  while (!rest.empty()) {
    const size_t digits = std::min(rest.find_first_not_of("0123456789"), rest.size());
    if (digits == 0 || digits == rest.size()) return wrong;
    const absl::StatusOr<unsigned> number = ParseNumber(rest.substr(0, digits), 0, kMost);
    const char letter = rest[digits];
    unit = std::find_if(unit, kUnits.end(), [&](const auto& each) { return each.first == letter; });
    if (!number.ok() || unit == kUnits.end()) return wrong;
    total += uint64_t{*number} * unit->second;
    if (total > kMost) return wrong;
    ++unit;
    rest.remove_prefix(digits + 1);
  }
  return seconds(total);
}

std::string ToString(std::chrono::seconds duration) {
  if (duration == std::chrono::seconds(0)) return "off";
  std::string text;
  int64_t left = duration.count();
  for (const auto& [letter, length] : {std::pair('h', 3600), std::pair('m', 60), std::pair('s', 1)}) {
    if (left >= length) text += fmt::format("{}{}", left / length, letter);
    left %= length;
  }
  return text;
}

bool IsDomainName(std::string_view text) {
  constexpr size_t kNameLimitBytes = 253;
  constexpr size_t kLabelLimitBytes = 63;
  if (text.size() > kNameLimitBytes || !proto::IsValidHost(text) || proto::ParseIpAddress(text)) return false;
  for (;;) {
    const size_t dot = text.find('.');
    const std::string_view label = text.substr(0, dot);
    if (label.empty() || label.size() > kLabelLimitBytes || label.starts_with('-') || label.ends_with('-'))
      return false;
    const bool spelled = std::ranges::all_of(label, [](char c) {
      return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
    });
    if (!spelled) return false;
    if (dot == std::string_view::npos) return true;
    text.remove_prefix(dot + 1);
  }
}

std::string LowerCase(std::string_view text) {
  std::string lower(text);
  std::ranges::transform(lower, lower.begin(),
                         [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c; });
  return lower;
}

absl::Status ParseListen(std::string_view text, std::vector<net::ListenSpec>& listen) {
  const size_t scheme_end = text.find("://");
  const std::string scheme = LowerCase(text.substr(0, scheme_end));
  if (scheme_end != std::string_view::npos && (scheme == "ws" || scheme == "wss" || scheme == "proxy")) {
    return ParseUrlListen(text, listen);
  }
  if (scheme_end == std::string_view::npos || (scheme != "tcp" && scheme != "udp" && scheme != "rtcp")) {
    return InvalidArgument(
        "{}: expected wss://ip:port/path, ws://ip:port/path, tcp://LISTEN/TARGET, udp://LISTEN/TARGET, "
        "rtcp://LISTEN/TARGET or proxy://ip:port",
        QuotedUrl(text));
  }
  const absl::StatusOr<std::vector<std::string_view>> items = SplitList(text.substr(scheme_end + 3));
  if (!items.ok()) {
    return InvalidArgument("{}: expected {}://LISTEN/TARGET[,LISTEN/TARGET...]", QuotedUrl(text), scheme);
  }
  const net::ListenKind kind = scheme == "tcp"   ? net::ListenKind::kForward
                               : scheme == "udp" ? net::ListenKind::kUdpForward
                                                 : net::ListenKind::kReverse;
  for (const std::string_view item : *items) TUNNEL_RETURN_IF_ERROR(ParseForward(item, scheme, kind, listen));
  return absl::OkStatus();
}

absl::Status ParseForwardTo(std::string_view text, net::Config& config) {
  const std::string lower = LowerCase(text);
  if (lower.starts_with("socks5://")) return ParseOutbound(text, config);
  if (!lower.starts_with("wss://")) {
    return InvalidArgument("{}: expected wss://host:port/path, or socks5://[user:password@]host:port of a server",
                           QuotedUrl(text));
  }
  const absl::StatusOr<proto::Url> url = proto::ParseUrl(text, {"wss"});
  if (!url.ok()) return url.status();
  if (url->credentials) {
    return InvalidArgument("{}: expected no user or password; the secret goes into -token", QuotedUrl(text));
  }
  if (!IsDomainName(url->host) && !proto::ParseIpAddress(url->host)) {
    return InvalidArgument("{}: expected the host to be a domain name or an IP address", QuotedUrl(text));
  }
  config.server_host = LowerCase(url->host);
  config.server_port = url->port.value_or(proto::kHttpsPort);
  config.server_path = url->path.empty() ? "/" : url->path;
  return absl::OkStatus();
}

absl::StatusOr<std::string> ParseDohUrl(std::string_view text) {
  const bool whole = text.find("://") != std::string_view::npos;
  if (whole && !LowerCase(text).starts_with("https://")) {
    return InvalidArgument("{}: expected https://host:port/path", QuotedUrl(text));
  }
  absl::StatusOr<proto::Url> url =
      proto::ParseUrl(whole ? std::string(text) : fmt::format("https://{}", text), {"https"});
  if (!url.ok()) return url.status();
  if (url->credentials) return InvalidArgument("{}: expected no user or password", QuotedUrl(text));
  if (!IsDomainName(url->host) && !proto::ParseIpAddress(url->host)) {
    return InvalidArgument("{}: expected the host to be a domain name or an IP address", QuotedUrl(text));
  }
  if (url->path.empty() || url->path == "/") url->path = "/dns-query";
  return proto::ToString(*url);
}

absl::StatusOr<core::SocketAddress> ParseAddress(std::string_view text) {
  if (text.starts_with(proto::kUnixPrefix)) {
    const std::optional<core::SocketAddress> path = UnixAddress(text);
    if (!path) return NoUnixPath(text, "unix:/socket");
    return *path;
  }
  std::string_view bare = text;
  const bool brackets = bare.starts_with('[') && bare.ends_with(']');
  if (brackets) bare = bare.substr(1, bare.size() - 2);
  const std::optional<proto::IpAddress> address = proto::ParseIpAddress(bare);
  if (!address || (brackets && !address->v6)) {
    return InvalidArgument("{}: expected an IP address without a port", Quoted(text));
  }
  return *core::SocketAddress::Parse(bare, 0);
}

absl::StatusOr<net::TargetRule> ParseTargetRule(std::string_view text) {
  net::TargetRule rule;
  if (text.starts_with(proto::kUnixPrefix)) {
    if (!proto::IsUnixTarget(text)) return NoUnixPath(text, "unix:/socket");
    rule.kind = net::TargetRule::Kind::kUnix;
    rule.name = std::string(proto::UnixPathOf(text));
    return rule;
  }
  const std::optional<RuleParts> parts = SplitRule(text);
  if (parts && parts->ports && parts->ports->find(':') != std::string_view::npos) {
    return InvalidArgument("{}: expected IPv6 in brackets, as [::1], [::1]:443 or [fd00::]/8", Quoted(text));
  }
  if (!parts || !SetRuleHost(parts->host, rule)) {
    return InvalidArgument(
        "{}: expected a range such as 10.0.0.0/8 or [fd00::]/8, an address, a name, *.suffix or *, with :port or "
        ":first-last where not every port is meant",
        Quoted(text));
  }
  if (parts->ports && *parts->ports != "*" && !SetRulePorts(*parts->ports, rule)) {
    return InvalidArgument("{}: expected a port, first-last (1 to 65535) or * after the colon", Quoted(text));
  }
  return rule;
}

absl::StatusOr<net::TargetRule> ParseReverseRule(std::string_view text) {
  absl::StatusOr<net::TargetRule> rule = ParseTargetRule(text);
  const std::optional<RuleParts> parts = SplitRule(text);
  const bool has_ports = parts && parts->ports.has_value();
  if (!rule.ok() || rule->kind != net::TargetRule::Kind::kNetwork || !has_ports) {
    return InvalidArgument(
        "{}: expected a range or an address with the ports that may be listened on, as 127.0.0.0/8:8000-9000, "
        "[::1]:2222 or 0.0.0.0:*",
        Quoted(text));
  }
  return rule;
}

std::string ToString(const net::TargetRule& rule) {
  std::string text;
  switch (rule.kind) {
    case net::TargetRule::Kind::kAny:
      text = "*";
      break;
    case net::TargetRule::Kind::kName:
      text = rule.name;
      break;
    case net::TargetRule::Kind::kUnix:
      text = fmt::format("{}{}", proto::kUnixPrefix, rule.name);
      break;
    case net::TargetRule::Kind::kSuffix:
      text = fmt::format("*.{}", rule.name);
      break;
    case net::TargetRule::Kind::kNetwork: {
      const auto& [address, prefix] = rule.network;
      text = address.v6 ? fmt::format("[{}]/{}", proto::ToString(address), prefix) : proto::ToString(rule.network);
      break;
    }
  }
  if (rule.first_port == 1 && rule.last_port == 65535) return text;
  if (rule.first_port == rule.last_port) return fmt::format("{}:{}", text, rule.first_port);
  return fmt::format("{}:{}-{}", text, rule.first_port, rule.last_port);
}

}  // namespace tunnel::tools
