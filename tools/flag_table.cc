#include "tools/flag_table.h"

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "core/log.h"
#include "core/udp_offload.h"
#include "core/uring_features.h"
#include "ech/config_list.h"
#include "ech/pem.h"
#include "net/peer_verifier.h"
#include "tools/flag_values.h"

namespace tunnel::tools {
namespace {

constexpr unsigned kChannelLimit = 256;       // each is a TLS connection; middleboxes freeze clients with many
constexpr unsigned kSourceLimit = 1000000;    // more than a process has descriptors
constexpr unsigned kThreadLimit = 1024;       // more cores than any machine this was thought for
constexpr size_t kTokenLimitBytes = 1024;     // it travels in a request head
constexpr size_t kCongestionLimitBytes = 15;  // TCP_CA_NAME_MAX with its zero

absl::Status NotEmpty(std::string_view value, std::string_view expected) {
  if (!value.empty()) return absl::OkStatus();
  return InvalidArgument("\"\": expected {}", expected);
}

// Calls `item` for each item of the list and stops at the first failure.
template <typename Item>
absl::Status ForEach(std::string_view value, Item item) {
  const absl::StatusOr<std::vector<std::string_view>> items = SplitList(value);
  if (!items.ok()) return items.status();
  for (const std::string_view text : *items) TUNNEL_RETURN_IF_ERROR(item(text));
  return absl::OkStatus();
}

// Moves a parsed value to the end of `list`.
template <typename Value>
absl::Status Append(absl::StatusOr<Value> value, std::vector<Value>& list) {
  if (!value.ok()) return value.status();
  list.push_back(*std::move(value));
  return absl::OkStatus();
}

absl::Status SetFile(std::string_view value, const Draft& draft, std::string& path) {
  TUNNEL_RETURN_IF_ERROR(NotEmpty(value, "the name of a PEM file"));
  path = std::string(value);
  const absl::Status readable = draft.surroundings.CheckReadable(path);
  if (readable.ok()) return absl::OkStatus();
  return InvalidArgument("{}: expected a PEM file that can be read: {}", Quoted(value), MessageOf(readable));
}

absl::Status SetDirectory(std::string_view value, std::string& path) {
  TUNNEL_RETURN_IF_ERROR(NotEmpty(value, "the name of a directory"));
  path = std::string(value);
  return absl::OkStatus();
}

// The token that stands alone in the file of `@/path`.
absl::StatusOr<std::string> TokenInFile(std::string_view value, Draft& draft) {
  const std::string path(value.substr(1));
  absl::StatusOr<std::string> text = draft.surroundings.ReadFile(path);
  if (!text.ok()) {
    return InvalidArgument("{}: expected a file that can be read: {}", Quoted(value), MessageOf(text.status()));
  }
  if (text->ends_with('\n')) text->pop_back();
  if (text->ends_with('\r')) text->pop_back();
  if (draft.surroundings.IsWorldReadable(path)) {
    draft.warnings.push_back(
        fmt::format("{} holds the token and everyone on this host may read it: chmod 600 it", OneLine(path)));
  }
  return text;
}

absl::Status SetToken(std::string_view value, Draft& draft) {
  std::string from_file;
  // A relative name would make a difference to tokens that begin with @.
  if (value.starts_with("@/")) {
    absl::StatusOr<std::string> text = TokenInFile(value, draft);
    if (!text.ok()) return text.status();
    from_file = *std::move(text);
    value = from_file;
  }
  const bool visible = std::ranges::all_of(value, [](char c) { return c > 0x20 && c < 0x7f; });
  if (value.empty() || value.size() > kTokenLimitBytes || !visible) {
    return InvalidArgument("(not shown): expected 1 to {} visible ASCII characters without spaces{}", kTokenLimitBytes,
                           value.empty() ? "; it is empty" : "");
  }
  draft.config.token = std::string(value);
  return absl::OkStatus();
}

absl::Status SetPin(std::string_view text, Draft& draft) {
  const absl::StatusOr<net::Pin> pin = net::ParsePin(text);
  if (!pin.ok()) {
    return InvalidArgument("{}: expected the SHA-256 of a public key, as 64 hex digits or 44 characters of base64",
                           Quoted(text));
  }
  draft.config.pins.emplace_back(pin->begin(), pin->end());
  return absl::OkStatus();
}

absl::Status SetProtocol(std::string_view value, Draft& draft) {
  if (value != "auto" && value != "native" && value != "legacy") {
    return InvalidArgument("{}: expected auto, native or legacy", Quoted(value));
  }
  draft.config.protocol = value == "auto"     ? net::Protocol::kAuto
                          : value == "native" ? net::Protocol::kNative
                                              : net::Protocol::kLegacy;
  return absl::OkStatus();
}

absl::Status SetEch(std::string_view value, Draft& draft) {
  draft.ech_of_server = LowerCase(value) == "auto";
  if (!draft.ech_of_server && !IsDomainName(value)) {
    return InvalidArgument("{}: expected a domain name, or auto for the host of -f", Quoted(value));
  }
  draft.config.ech_name = LowerCase(value);
  return absl::OkStatus();
}

absl::Status SetEchConfig(std::string_view value, Draft& draft) {
  std::string text(value);
  if (value.starts_with('@')) {
    const absl::StatusOr<std::string> file = draft.surroundings.ReadFile(std::string(value.substr(1)));
    if (!file.ok()) {
      return InvalidArgument("{}: expected a file that can be read: {}", Quoted(value), MessageOf(file.status()));
    }
    text = *file;
  }
  const absl::StatusOr<std::vector<uint8_t>> bytes = ech::ConfigListFromText(text);
  if (!bytes.ok()) {
    return InvalidArgument("{}: expected an ECHConfigList in base64, or @file: {}", Quoted(value),
                           MessageOf(bytes.status()));
  }
  const absl::StatusOr<ech::EchConfigList> list = ech::ParseConfigList(*bytes);
  if (!list.ok()) {
    return InvalidArgument("{}: expected an ECHConfigList that can be used: {}", Quoted(value),
                           MessageOf(list.status()));
  }
  draft.config.ech_config_list.assign(bytes->begin(), bytes->end());
  return absl::OkStatus();
}

// Shorter, keys would be gone before anyone had used them.
constexpr std::chrono::seconds kShortestRotation{1};

absl::Status SetDuration(std::string_view value, std::chrono::seconds least, std::chrono::seconds& to) {
  const absl::StatusOr<std::chrono::seconds> parsed = ParseDuration(value);
  if (!parsed.ok()) return parsed.status();
  if (*parsed != std::chrono::seconds(0) && *parsed < least) {
    return InvalidArgument("{}: expected at least {}", Quoted(value), ToString(least));
  }
  to = *parsed;
  return absl::OkStatus();
}

absl::Status SetEchPublicName(std::string_view value, Draft& draft) {
  if (!ech::IsValidPublicName(value)) return InvalidArgument("{}: expected a host name", Quoted(value));
  draft.config.ech_public_name = LowerCase(value);
  return absl::OkStatus();
}

absl::Status SetCidr(std::string_view text, Draft& draft) {
  absl::StatusOr<proto::Cidr> cidr = proto::ParseCidr(text);
  if (!cidr.ok()) {
    return InvalidArgument("{}: expected an address or a range, as 10.0.0.0/8 or fd00::/8", Quoted(text));
  }
  draft.config.admitted.push_back(*cidr);
  return absl::OkStatus();
}

absl::Status SetName(std::string_view text, Draft& draft) {
  if (!IsDomainName(text) && !proto::ParseIpAddress(text)) {
    return InvalidArgument("{}: expected a domain name or an IP address", Quoted(text));
  }
  draft.config.names.push_back(LowerCase(text));
  return absl::OkStatus();
}

absl::Status SetBackend(std::string_view value, Draft& draft) {
  constexpr std::array<std::pair<std::string_view, core::BackendChoice>, 3> kChoices = {{
      {"auto", core::BackendChoice::kAuto},
      {"io_uring", core::BackendChoice::kUring},
      {"epoll", core::BackendChoice::kEpoll},
  }};
  for (const auto& [name, choice] : kChoices) {
    if (value != name) continue;
    draft.config.reactor.backend = choice;
    return absl::OkStatus();
  }
  return InvalidArgument("{}: expected auto, io_uring or epoll", Quoted(value));
}

absl::Status SetDisabledFeature(std::string_view text, Draft& draft) {
  std::vector<std::string_view> names;
  for (const char* const name : core::UringFeatureNames()) names.emplace_back(name);
  for (const char* const name : core::UdpOffloadNames()) names.emplace_back(name);
  if (std::ranges::find(names, text) == names.end()) {
    return InvalidArgument("{}: expected one of {}{}", Quoted(text), fmt::join(names, ", "),
                           DidYouMean(text, names, ""));
  }
  draft.config.reactor.backend_options.disabled_features.emplace_back(text);
  return absl::OkStatus();
}

absl::Status SetCongestion(std::string_view value, Draft& draft) {
  const bool spelled = std::ranges::all_of(value, [](char c) { return c > 0x20 && c < 0x7f; });
  if (value.empty() || value.size() > kCongestionLimitBytes || !spelled ||
      !draft.surroundings.HasCongestionControl(std::string(value))) {
    return InvalidArgument(
        "{}: expected a congestion control that this system has, as "
        "/proc/sys/net/ipv4/tcp_available_congestion_control "
        "lists them",
        Quoted(value));
  }
  draft.config.reactor.congestion_control = std::string(value);
  return absl::OkStatus();
}

absl::Status SetLogLevel(std::string_view value, Draft& draft) {
  if (!core::IsLogLevel(value)) {
    return InvalidArgument("{}: expected error, warn, info, debug or trace", Quoted(value));
  }
  draft.config.log_level = std::string(value);
  return absl::OkStatus();
}

absl::Status SetLogFormat(std::string_view value, Draft& draft) {
  if (value != "text" && value != "json") return InvalidArgument("{}: expected text or json", Quoted(value));
  draft.config.log_format = value == "json" ? core::LogFormat::kJson : core::LogFormat::kText;
  return absl::OkStatus();
}

absl::Status SetNumber(std::string_view value, unsigned most, unsigned& number) {
  const absl::StatusOr<unsigned> parsed = ParseNumber(value, 1, most);
  if (!parsed.ok()) return parsed.status();
  number = *parsed;
  return absl::OkStatus();
}

const Flag kFlags[] = {
    {.spec = {.name = "l", .argument = "URL", .repeatable = true},
     .default_text = "required",
     .help = "What to listen on. A server: wss://ip:port/path, or ws://ip:port/path behind something that ends TLS. A "
             "client: proxy://[user:password@]ip:port for SOCKS4, SOCKS5 and HTTP on one port, "
             "tcp://LISTEN/TARGET[,LISTEN/TARGET...] to forward connections, udp://LISTEN/TARGET[,LISTEN/TARGET...] to "
             "forward datagrams, rtcp://LISTEN/TARGET[,LISTEN/TARGET...] for connections that come the other way: the "
             "server listens, where its -allow-reverse permits it, and TARGET is reached from here. No ip is 0.0.0.0, "
             "port 0 a free one (see the log), a path of / any path; IPv6 goes in brackets. unix:/socket may stand for "
             "ip:port but in udp:// and rtcp://, with a colon before what follows: ws://unix:/run/t.sock:/path, "
             "proxy://unix:/run/p.sock, tcp://unix:/run/a.sock:/TARGET; and for a TARGET, which is then one of the "
             "server's host, of rtcp:// one of this.",
     .set = [](std::string_view value, Draft& draft) { return ParseListen(value, draft.config.listen); }},
    {.spec = {.name = "f", .argument = "URL"},
     .default_text = "a client needs it; a server goes out directly",
     .help = "Of a client the server: wss://host:port/path, whose name is what ECH hides. Of a server the SOCKS5 proxy "
             "through which it reaches its targets: socks5://[user:password@]host:port, which resolves their names.",
     .set = [](std::string_view value, Draft& draft) { return ParseForwardTo(value, draft.config); }},
    {.spec = {.name = "token", .argument = "TEXT", .secrecy = Secrecy::kSecret},
     .default_text = "none",
     .help = "The secret that client and server share; @/path takes it from a file. In the environment, in a file of "
             "its own or in that of -config others cannot see it.",
     .set = SetToken},
    {.spec = {.name = "state", .argument = "DIR"},
     .default_text = "$STATE_DIRECTORY, else $XDG_STATE_HOME/ech-tunnel, else ~/.local/state/ech-tunnel",
     .help =
         "Where made keys and certificates are kept, and of a client what it has learnt of its servers (ech-cache), so "
         "that it starts without DoH.",
     .set = [](std::string_view value, Draft& draft) { return SetDirectory(value, draft.config.state_directory); }},

    {.spec = {.name = "ip", .argument = "ADDRESS,..."},
     .side = Side::kClient,
     .default_text = "resolve the host of -f over DoH",
     .help =
         "Addresses to dial instead of resolving the host of -f, with -n channels to each; unix:/socket is one, too.",
     .set =
         [](std::string_view value, Draft& draft) {
           return ForEach(
               value, [&](std::string_view text) { return Append(ParseAddress(text), draft.config.server_addresses); });
         }},
    {.spec = {.name = "n", .argument = "NUMBER"},
     .side = Side::kClient,
     .default_text = "3",
     .help = "Channels to keep open, to each address.",
     .set = [](std::string_view value,
               Draft& draft) { return SetNumber(value, kChannelLimit, draft.config.channels); }},
    {.spec = {.name = "dns", .argument = "URL,..."},
     .side = Side::kClient,
     .default_text = "https://dns.alidns.com/dns-query",
     .help = "DoH resolvers for the ECH config and the server's address. https:// and /dns-query may be left out. One "
             "given as https://IP/... needs no plain DNS at all.",
     .set =
         [](std::string_view value, Draft& draft) {
           return ForEach(value,
                          [&](std::string_view text) { return Append(ParseDohUrl(text), draft.config.doh_urls); });
         }},
    {.spec = {.name = "ech", .argument = "NAME"},
     .side = Side::kClient,
     .default_text = "cloudflare-ech.com",
     .help = "The name whose HTTPS record holds the ECHConfigList; auto is the host of -f.",
     .set = SetEch},
    {.spec = {.name = "ech-config", .argument = "BASE64|@FILE"},
     .side = Side::kClient,
     .default_text = "none",
     .help = "The ECHConfigList itself, so that none is looked up.",
     .set = SetEchConfig},
    {.spec = {.name = "fallback", .argument = ""},
     .side = Side::kClient,
     .default_text = "off: ECH or no connection",
     .help = "Connect by plain TLS 1.3, without ECH. Whoever watches sees the name of the server.",
     .set =
         [](std::string_view value, Draft& draft) {
           draft.config.fallback = value == "true";
           return absl::OkStatus();
         }},
    {.spec = {.name = "ca", .argument = "FILE"},
     .side = Side::kClient,
     .default_text = "the system's store",
     .help = "Trust anchors (PEM) for the server and the resolvers; a made certificate is its own.",
     .set = [](std::string_view value, Draft& draft) { return SetFile(value, draft, draft.config.ca_file); }},
    {.spec = {.name = "pin", .argument = "SHA256,...", .repeatable = true},
     .side = Side::kClient,
     .default_text = "none",
     .help = "SHA-256 of a public key that the server and the resolvers must have, in hex or base64. Without -ca the "
             "key alone decides.",
     .set = [](std::string_view value,
               Draft& draft) { return ForEach(value, [&](std::string_view text) { return SetPin(text, draft); }); }},
    {.spec = {.name = "proto", .argument = "auto|native|legacy"},
     .side = Side::kBoth,
     .default_text = "auto",
     .help = "The protocol within a channel: native is mux/2, whose connections outlive their channels; legacy is that "
             "of the original. auto takes the best that both sides have; the others refuse a peer that lacks it.",
     .set = SetProtocol},

    {.spec = {.name = "cidr", .argument = "RANGE,..."},
     .side = Side::kServer,
     .default_text = "0.0.0.0/0,::/0",
     .help = "Source addresses that may connect.",
     .set = [](std::string_view value,
               Draft& draft) { return ForEach(value, [&](std::string_view text) { return SetCidr(text, draft); }); }},
    {.spec = {.name = "channels-per-source", .argument = "NUMBER"},
     .side = Side::kServer,
     .default_text = "1024",
     .help =
         "Channels that one source address may hold on wss:// listeners; an IPv6 source is its /64, 0 is any number. "
         "A further one is answered with 503. Raise it where many clients come from one address, as a CDN's.",
     .set =
         [](std::string_view value, Draft& draft) {
           const absl::StatusOr<unsigned> number = ParseNumber(value, 0, kSourceLimit);
           if (!number.ok()) return number.status();
           draft.config.channels_per_source = *number;
           return absl::OkStatus();
         }},
    {.spec = {.name = "cert", .argument = "FILE"},
     .side = Side::kServer,
     .default_text = "a self-signed one, made once and kept in -state",
     .help = "Certificate chain (PEM); goes with -key. Read again on SIGHUP.",
     .set = [](std::string_view value, Draft& draft) { return SetFile(value, draft, draft.config.certificate_file); }},
    {.spec = {.name = "key", .argument = "FILE"},
     .side = Side::kServer,
     .default_text = "that of the made certificate",
     .help = "Private key of -cert (PEM). Read again on SIGHUP.",
     .set = [](std::string_view value, Draft& draft) { return SetFile(value, draft, draft.config.key_file); }},
    {.spec = {.name = "name", .argument = "NAME,..."},
     .side = Side::kServer,
     .default_text = "the names in its certificate, else localhost",
     .help = "The server's own names: for the certificate it makes and for -serve-dns.",
     .set = [](std::string_view value,
               Draft& draft) { return ForEach(value, [&](std::string_view text) { return SetName(text, draft); }); }},
    {.spec = {.name = "ech-keys", .argument = "DIR"},
     .side = Side::kServer,
     .default_text = "ech in -state, with a key made on first start",
     .help = "ECH keys (*.ech, RFC 9934 PEM). The newest is published, all are accepted; files that come or go are "
             "noticed at once.",
     .set = [](std::string_view value, Draft& draft) { return SetDirectory(value, draft.config.ech_key_directory); }},
    {.spec = {.name = "ech-public-name", .argument = "NAME"},
     .side = Side::kServer,
     .default_text = "this host's name; localhost when listening on loopback only",
     .help = "The outer name in ECH configs that are made: what others see instead of the server's name.",
     .set = SetEchPublicName},
    {.spec = {.name = "ech-rotate", .argument = "TIME"},
     .side = Side::kServer,
     .default_text = "24h with -serve-dns and keys in -state, else off",
     .help =
         "Make a new ECH key when the newest is this old (24h, 90m, 1h30m; off for never), and remove keys that this "
         "program made once nobody can have them cached: two days after another was published in their place. "
         "Whoever publishes the record by other means than -serve-dns has to follow.",
     .set = [](std::string_view value,
               Draft& draft) { return SetDuration(value, kShortestRotation, draft.config.ech_rotate); }},
    {.spec = {.name = "ech-publish-delay", .argument = "TIME"},
     .side = Side::kServer,
     .default_text = "off",
     .help = "Publish no ECH key before it is this old: so long the servers that share -ech-keys have to learn of it. "
             "Until then it is accepted and the one before is published.",
     .set = [](std::string_view value,
               Draft& draft) { return SetDuration(value, {}, draft.config.ech_publish_delay); }},
    {.spec = {.name = "require-ech", .argument = ""},
     .side = Side::kServer,
     .default_text = "off",
     .help = "Only connections whose ECH was accepted reach the tunnel.",
     .set =
         [](std::string_view value, Draft& draft) {
           draft.config.require_ech = value == "true";
           return absl::OkStatus();
         }},
    {.spec = {.name = "serve-dns", .argument = ""},
     .side = Side::kServer,
     .default_text = "off",
     .help = "Answer DoH at /dns-query for the server's own names, with its ECH config, so that clients need no other "
             "resolver.",
     .set =
         [](std::string_view value, Draft& draft) {
           draft.config.serve_dns = value == "true";
           return absl::OkStatus();
         }},
    {.spec = {.name = "allow-target", .argument = "RULE,...", .repeatable = true},
     .side = Side::kServer,
     .default_text = "none",
     .help =
         "Exceptions to what is denied. A rule is a range, an address, a name, *.suffix or *, with :port or "
         ":first-last where not every port is meant: 10.0.0.0/8, [fd00::]/8:22, *.example.org:80-443. A Unix socket is "
         "only reached when it is named here: unix:/run/app.sock.",
     .set =
         [](std::string_view value, Draft& draft) {
           return ForEach(
               value, [&](std::string_view text) { return Append(ParseTargetRule(text), draft.config.allow_target); });
         }},
    {.spec = {.name = "deny-target", .argument = "RULE,...", .repeatable = true},
     .side = Side::kServer,
     .default_text = "none more",
     .help = "What a client may not reach, besides loopback, link-local, unspecified and multicast addresses, which "
             "are always denied unless allowed. Names are checked again after resolution.",
     .set =
         [](std::string_view value, Draft& draft) {
           return ForEach(
               value, [&](std::string_view text) { return Append(ParseTargetRule(text), draft.config.deny_target); });
         }},
    {.spec = {.name = "allow-reverse", .argument = "RULE,...", .repeatable = true},
     .side = Side::kServer,
     .default_text = "none: rtcp:// of clients is refused",
     .help = "Where clients may have this server listen: a range or an address with ports, as 127.0.0.0/8:8000-9000, "
             "[::1]:2222 or 0.0.0.0:*. Port 0, a free one, needs a rule with every port.",
     .set =
         [](std::string_view value, Draft& draft) {
           return ForEach(value, [&](std::string_view text) {
             return Append(ParseReverseRule(text), draft.config.allow_reverse);
           });
         }},

    {.spec = {.name = "backend", .argument = "auto|io_uring|epoll"},
     .side = Side::kProcess,
     .default_text = "auto",
     .help = "How to wait for the kernel. auto is io_uring where it is granted, else epoll.",
     .set = SetBackend},
    {.spec = {.name = "threads", .argument = "NUMBER"},
     .side = Side::kProcess,
     .default_text = "the cores this process may use",
     .help = "Reactors, each on a core of its own.",
     .set = [](std::string_view value, Draft& draft) { return SetNumber(value, kThreadLimit, draft.config.threads); }},
    {.spec = {.name = "disable-feature", .argument = "NAME,...", .repeatable = true},
     .side = Side::kProcess,
     .default_text = "none",
     .help = "Kernel features not to use though they are there: single-issuer, registered-ring, multishot-accept, "
             "multishot-receive, multishot-datagrams of io_uring; udp-gso, udp-gro.",
     .set =
         [](std::string_view value, Draft& draft) {
           return ForEach(value, [&](std::string_view text) { return SetDisabledFeature(text, draft); });
         }},
    {.spec = {.name = "congestion", .argument = "NAME"},
     .side = Side::kProcess,
     .default_text = "the system's",
     .help = "TCP congestion control of every connection, bbr for instance.",
     .set = SetCongestion},
    {.spec = {.name = "log-level", .argument = "LEVEL"},
     .side = Side::kProcess,
     .default_text = "info",
     .help = "error, warn, info, debug or trace. Target names are logged from debug on.",
     .set = SetLogLevel},
    {.spec = {.name = "log-format", .argument = "text|json"},
     .side = Side::kProcess,
     .default_text = "text",
     .help = "How log lines on standard error look.",
     .set = SetLogFormat},
    {.spec = {.name = kConfigFlag, .argument = "FILE"},
     .side = Side::kProcess,
     .default_text = "none",
     .help =
         "A file that says what flags say: TOML, or JSON with the flags' names or the forks' keys (listen, forward, "
         "connections). Flags and the environment beat it.",
     .set = [](std::string_view value,
               Draft& /*draft*/) { return NotEmpty(value, "the name of a TOML or JSON file"); }},
    {.spec = {.name = kCheckConfigFlag},
     .side = Side::kProcess,
     .help = "Check the configuration and the files it names, print it as TOML without its secrets, and exit: 0, or 2 "
             "with one line that says what is wrong."},
    {.spec = {.name = "h", .repeatable = true}, .side = Side::kProcess, .help = "Print this and exit."},
    {.spec = {.name = "help", .repeatable = true}, .side = Side::kProcess, .help = "The same as -h."},
    {.spec = {.name = "version", .repeatable = true},
     .side = Side::kProcess,
     .help = "Print the version, and what it was built with and runs on, and exit."},
};

}  // namespace

std::span<const Flag> FlagTable() { return kFlags; }

bool InFile(const Flag& flag) { return flag.set != nullptr && flag.spec.name != kConfigFlag; }

}  // namespace tunnel::tools
