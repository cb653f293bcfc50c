#include "tools/flags.h"

#include <algorithm>
#include <iterator>
#include <optional>

#include "core/check.h"
#include "ech/config_list.h"
#include "tools/config_file.h"
#include "tools/flag_parser.h"
#include "tools/flag_table.h"
#include "tools/flag_values.h"

namespace tunnel::tools {
namespace {

constexpr std::string_view kVariablePrefix = "ECH_TUNNEL_";
constexpr std::string_view kEnvironment = "environment";
constexpr std::string_view kDefaultDoh = "https://dns.alidns.com/dns-query";
constexpr std::string_view kDefaultEchName = "cloudflare-ech.com";

std::vector<const FlagSpec*> Specs() {
  std::vector<const FlagSpec*> specs;
  for (const Flag& flag : FlagTable()) specs.push_back(&flag.spec);
  return specs;
}

const Flag& FlagOf(const FlagSpec& spec) {
  for (const Flag& flag : FlagTable()) {
    if (&flag.spec == &spec) return flag;
  }
  TUNNEL_CHECK(false);
}

// The variable's value where it says anything: container tools pass on variables that are empty.
std::optional<std::string> Variable(const Surroundings& surroundings, const std::string& name) {
  const auto found = surroundings.variables().find(name);
  if (found == surroundings.variables().end() || found->second.empty()) return std::nullopt;
  return found->second;
}

std::vector<std::string> Words(std::string_view text) {
  std::vector<std::string> words;
  for (;;) {
    const size_t start = text.find_first_not_of(" \t\r\n");
    if (start == std::string_view::npos) return words;
    text.remove_prefix(start);
    const size_t end = std::min(text.find_first_of(" \t\r\n"), text.size());
    words.emplace_back(text.substr(0, end));
    text.remove_prefix(end);
  }
}

// Appends to `given` what the environment says of flags that are not among them.
absl::Status AddVariables(const Surroundings& surroundings, std::vector<GivenFlag>& given) {
  std::vector<GivenFlag> added;
  for (const Flag& flag : FlagTable()) {
    if (flag.set == nullptr) continue;
    const bool on_command_line = std::ranges::any_of(given, [&](const GivenFlag& g) { return g.spec == &flag.spec; });
    const std::string name = VariableOf(flag.spec.name);
    const std::optional<std::string> value = Variable(surroundings, name);
    if (on_command_line || !value) continue;
    if (flag.spec.boolean()) {
      absl::StatusOr<std::string> boolean = ParseBoolean(*value);
      if (!boolean.ok()) return InvalidArgument("{} {}", name, MessageOf(boolean.status()));
      added.push_back(
          {.spec = &flag.spec, .value = *std::move(boolean), .source = name, .origin = std::string(kEnvironment)});
    } else if (flag.spec.repeatable) {
      // What is repeated on a command line is separated by white space here.
      for (std::string& word : Words(*value)) {
        added.push_back(
            {.spec = &flag.spec, .value = std::move(word), .source = name, .origin = std::string(kEnvironment)});
      }
    } else {
      added.push_back({.spec = &flag.spec, .value = *value, .source = name, .origin = std::string(kEnvironment)});
    }
  }
  std::ranges::move(added, std::back_inserter(given));
  return absl::OkStatus();
}

const GivenFlag* FindGiven(const std::vector<GivenFlag>& given, std::string_view name) {
  const auto found = std::ranges::find_if(given, [&](const GivenFlag& flag) { return flag.spec->name == name; });
  return found == given.end() ? nullptr : &*found;
}

// Appends to `given` what the file of -config says of flags that are not among them.
absl::Status AddFile(const Surroundings& surroundings, std::vector<GivenFlag>& given,
                     std::vector<std::string>& warnings) {
  const GivenFlag* const config = FindGiven(given, kConfigFlag);
  if (config == nullptr) return absl::OkStatus();
  const std::string path = config->value;
  const absl::StatusOr<std::string> text = surroundings.ReadFile(path);
  if (!text.ok()) {
    return InvalidArgument("{} {}: expected a TOML or JSON file that can be read: {}", config->source, Quoted(path),
                           MessageOf(text.status()));
  }
  std::vector<const FlagSpec*> specs;
  for (const Flag& flag : FlagTable()) {
    if (InFile(flag)) specs.push_back(&flag.spec);
  }
  absl::StatusOr<std::vector<GivenFlag>> said = ParseConfigFile(*text, path, specs);
  if (!said.ok()) return said.status();
  if (std::ranges::any_of(*said, HoldsSecret) && surroundings.IsWorldReadable(path)) {
    warnings.push_back(
        fmt::format("{} holds a secret and everyone on this host may read it: chmod 600 it, or put the "
                    "token into a file of its own (token = \"@/path\")",
                    OneLine(path)));
  }
  const size_t stronger = given.size();
  for (GivenFlag& flag : *said) {
    const auto end = given.begin() + static_cast<std::ptrdiff_t>(stronger);
    if (std::none_of(given.begin(), end, [&](const GivenFlag& g) { return g.spec == flag.spec; })) {
      given.push_back(std::move(flag));
    }
  }
  return absl::OkStatus();
}

// A secret that is the mask of -check-config has not been put back.
void WarnOfMasks(const std::vector<GivenFlag>& given, std::vector<std::string>& warnings) {
  for (const GivenFlag& flag : given) {
    const bool mask = flag.spec->secrecy == Secrecy::kSecret ? flag.value == kSecretMask
                                                             : flag.value.find("://***:***@") != std::string::npos;
    if (mask) {
      warnings.push_back(fmt::format("{} is {}, which -check-config prints in a secret's place: put the secret there",
                                     flag.source, kSecretMask));
    }
  }
}

// Variables of our prefix that are no flag's. Not an error: orchestrators set some of their own after a service's name.
void WarnOfVariables(const Surroundings& surroundings, std::vector<std::string>& warnings) {
  std::vector<std::string> known;
  for (const Flag& flag : FlagTable()) {
    if (flag.set != nullptr) known.push_back(VariableOf(flag.spec.name));
  }
  const std::vector<std::string_view> candidates(known.begin(), known.end());
  for (const auto& [name, value] : surroundings.variables()) {
    if (!name.starts_with(kVariablePrefix) || std::ranges::find(known, name) != known.end()) continue;
    warnings.push_back(fmt::format("the environment has {}, which means nothing here{}", OneLine(name),
                                   DidYouMean(name, candidates, "")));
  }
}

bool IsLoopback(const net::ListenSpec& spec) {
  if (spec.address.is_unix()) return true;
  const std::string ip = spec.address.ip();
  return ip.starts_with("127.") || ip == "::1";
}

bool HasKind(const net::Config& config, net::ListenKind kind) {
  return std::ranges::any_of(config.listen, [&](const net::ListenSpec& spec) { return spec.kind == kind; });
}

// Which side this process is, from what it listens on.
absl::Status CheckListeners(const Draft& draft, Purpose purpose) {
  const net::Config& config = draft.config;
  if (purpose == Purpose::kCheckServer && config.is_server()) {
    return InvalidArgument("{} {}: expected a client's configuration, with which a server is checked from outside",
                           draft.given.at("l"), Quoted(config.listen[0].description));
  }
  if (config.listen.empty() && purpose == Purpose::kRun) {
    return InvalidArgument(
        "-l is missing: expected what to listen on, as wss://0.0.0.0:443/path or proxy://127.0.0.1:1080 (-h has "
        "examples)");
  }
  const auto is_server = [](const net::ListenSpec& spec) {
    return spec.kind == net::ListenKind::kServerTls || spec.kind == net::ListenKind::kServerPlain;
  };
  // UDP has ports of its own, and so has the server's host.
  const auto ports_of = [](const net::ListenSpec& spec) {
    return spec.kind == net::ListenKind::kUdpForward || spec.kind == net::ListenKind::kReverse
               ? spec.kind
               : net::ListenKind::kForward;
  };
  for (const net::ListenSpec& spec : config.listen) {
    if (is_server(spec) == config.is_server()) continue;
    return InvalidArgument(
        "{} {}: expected a server's listeners (wss://, ws://) or a client's (proxy://, tcp://, udp://, rtcp://) in "
        "one process, not both",
        draft.given.at("l"), Quoted(spec.description));
  }
  for (size_t i = 0; i < config.listen.size(); ++i) {
    const core::SocketAddress& address = config.listen[i].address;
    if (address.port() == 0 && !address.is_unix()) continue;
    for (size_t j = 0; j < i; ++j) {
      const bool same_ports = ports_of(config.listen[i]) == ports_of(config.listen[j]);
      if (!same_ports || config.listen[j].address != address) continue;
      return InvalidArgument("{} {}: expected an address that nothing else here listens on, and {} is another's",
                             draft.given.at("l"), Quoted(config.listen[i].description), address.ToString());
    }
  }
  return absl::OkStatus();
}

absl::Status CheckSides(const Draft& draft) {
  const bool server = draft.config.is_server();
  const std::string why = draft.config.listen.empty()
                              ? "check is"
                              : fmt::format("-l {} makes this", Quoted(draft.config.listen[0].description));
  for (const Flag& flag : FlagTable()) {
    const auto given = draft.given.find(flag.spec.name);
    if (given == draft.given.end()) continue;
    if (flag.side != (server ? Side::kClient : Side::kServer)) continue;
    return InvalidArgument("{} is for a {}, and {} a {}", given->second, server ? "client" : "server", why,
                           server ? "server" : "client");
  }
  // -f is for both and means something else to each.
  if (server && !draft.config.server_host.empty()) {
    return InvalidArgument("{} wss:// is for a client, and {} a server, which goes out through socks5://host:port",
                           draft.given.at("f"), why);
  }
  if (!server && draft.config.outbound.has_value()) {
    return InvalidArgument("{} {} is for a server, and {} a client, which needs wss://host:port/path",
                           draft.given.at("f"), Quoted(draft.config.outbound->description), why);
  }
  return absl::OkStatus();
}

absl::Status FinishClient(Draft& draft) {
  net::Config& config = draft.config;
  if (!draft.Has("f")) {
    return InvalidArgument("-f is missing: expected the server, as wss://host:port/path, which every client needs");
  }
  if (draft.Has("ech-config") && config.fallback) {
    return InvalidArgument("{} and {} contradict each other: with a config ECH is used, with fallback it is not",
                           draft.given.at("ech-config"), draft.given.at("fallback"));
  }
  if (draft.Has("ech-config") && draft.Has("ech")) {
    return InvalidArgument("{} and {} contradict each other: the config is either given or looked up",
                           draft.given.at("ech-config"), draft.given.at("ech"));
  }
  if (config.protocol == net::Protocol::kLegacy && HasKind(config, net::ListenKind::kReverse)) {
    return InvalidArgument(
        "{} legacy and an rtcp:// listener contradict each other: the legacy protocol has no reverse forwards, which "
        "need auto or native",
        draft.given.at("proto"));
  }
  if (config.doh_urls.empty()) config.doh_urls.emplace_back(kDefaultDoh);
  if (draft.Has("ech-config") || config.fallback) {
    config.ech_name.clear();
  } else if (draft.ech_of_server) {
    if (!IsDomainName(config.server_host)) {
      return InvalidArgument("{} \"auto\": expected a name in -f, and {} is an address; give -ech NAME or -ech-config",
                             draft.given.at("ech"), config.server_host);
    }
    config.ech_name = config.server_host;
  } else if (!draft.Has("ech")) {
    config.ech_name = kDefaultEchName;
  }
  return absl::OkStatus();
}

std::string DefaultPublicName(const Draft& draft) {
  const std::string host = LowerCase(draft.surroundings.HostName());
  const bool loopback_only = std::ranges::all_of(draft.config.listen, IsLoopback);
  return loopback_only || !ech::IsValidPublicName(host) ? "localhost" : host;
}

absl::Status FinishServer(Draft& draft) {
  net::Config& config = draft.config;
  if (draft.Has("cert") != draft.Has("key")) {
    const bool cert = draft.Has("cert");
    return InvalidArgument("{} is given without {}: expected both or neither", draft.given.at(cert ? "cert" : "key"),
                           cert ? "-key" : "-cert");
  }
  if (config.admitted.empty()) {
    config.admitted = {proto::Cidr{}, proto::Cidr{.address = proto::IpAddress{.v6 = true}}};
  }
  if (config.require_ech && HasKind(config, net::ListenKind::kServerPlain)) {
    return InvalidArgument("{} and a ws:// listener contradict each other: without TLS there is no ECH",
                           draft.given.at("require-ech"));
  }
  if (!HasKind(config, net::ListenKind::kServerTls)) return absl::OkStatus();
  if (config.ech_public_name.empty()) config.ech_public_name = DefaultPublicName(draft);
  if (config.state_directory.empty() && (config.certificate_file.empty() || config.ech_key_directory.empty())) {
    return InvalidArgument(
        "-state is missing: expected a directory to keep keys in, since none of $STATE_DIRECTORY, $XDG_STATE_HOME and "
        "$HOME says where");
  }
  if (config.ech_key_directory.empty()) config.ech_key_directory = fmt::format("{}/ech", config.state_directory);
  return absl::OkStatus();
}

std::string DefaultStateDirectory(const Surroundings& surroundings) {
  // systemd lists all of a unit's state directories, colons between.
  if (const auto state = Variable(surroundings, "STATE_DIRECTORY")) return state->substr(0, state->find(':'));
  // A relative one is to be ignored (XDG Base Directory Specification).
  if (const auto xdg = Variable(surroundings, "XDG_STATE_HOME"); xdg && xdg->starts_with('/')) {
    return fmt::format("{}/ech-tunnel", *xdg);
  }
  if (const auto home = Variable(surroundings, "HOME")) return fmt::format("{}/.local/state/ech-tunnel", *home);
  return "";
}

void Warn(const net::Config& config, std::vector<std::string>& warnings) {
  for (const net::ListenSpec& spec : config.listen) {
    if (spec.kind == net::ListenKind::kProxy && spec.user.empty() && !IsLoopback(spec)) {
      warnings.push_back(fmt::format("{} asks for no password: whoever reaches it uses the tunnel", spec.description));
    }
  }
  if (config.is_server() && config.token.empty() && !std::ranges::all_of(config.listen, IsLoopback)) {
    warnings.emplace_back("there is no -token: whoever reaches this server can use it");
  }
  if (config.fallback) {
    warnings.push_back(
        fmt::format("-fallback: connections are made WITHOUT ECH, and {} can be seen on the wire", config.server_host));
  }
}

absl::StatusOr<CommandLine> Parse(std::span<const std::string> args, const Surroundings& surroundings,
                                  Purpose purpose) {
  const std::vector<const FlagSpec*> specs = Specs();
  absl::StatusOr<std::vector<GivenFlag>> given = SplitArguments(args, specs);
  if (!given.ok()) return given.status();
  CommandLine result;
  for (const GivenFlag& flag : *given) {
    if (FlagOf(*flag.spec).set != nullptr || flag.value != "true") continue;
    if (flag.spec->name == kCheckConfigFlag) {
      result.action = Action::kCheckConfig;
      continue;
    }
    result.action = flag.spec->name == "version" ? Action::kVersion : Action::kHelp;
    return result;
  }
  TUNNEL_RETURN_IF_ERROR(AddVariables(surroundings, *given));
  TUNNEL_RETURN_IF_ERROR(AddFile(surroundings, *given, result.warnings));

  Draft draft(surroundings);
  draft.config.state_directory = DefaultStateDirectory(surroundings);
  for (const GivenFlag& flag : *given) {
    const Flag& entry = FlagOf(*flag.spec);
    if (entry.set == nullptr) continue;
    draft.given.emplace(flag.spec->name, flag.source);
    if (const absl::Status set = entry.set(flag.value, draft); !set.ok()) {
      return InvalidArgument("{} {}", flag.source, MessageOf(set));
    }
  }
  TUNNEL_RETURN_IF_ERROR(CheckListeners(draft, purpose));
  TUNNEL_RETURN_IF_ERROR(CheckSides(draft));
  TUNNEL_RETURN_IF_ERROR(draft.config.is_server() ? FinishServer(draft) : FinishClient(draft));
  std::ranges::move(draft.warnings, std::back_inserter(result.warnings));
  WarnOfMasks(*given, result.warnings);
  Warn(draft.config, result.warnings);
  WarnOfVariables(surroundings, result.warnings);
  result.config = std::move(draft.config);
  result.settings = *std::move(given);
  return result;
}

}  // namespace

std::string VariableOf(std::string_view flag) {
  std::string name(kVariablePrefix);
  for (const char c : flag) {
    name += c == '-' ? '_' : (c >= 'a' && c <= 'z' ? static_cast<char>(c - ('a' - 'A')) : c);
  }
  return name;
}

absl::StatusOr<CommandLine> ParseCommandLine(std::span<const std::string> args, const Surroundings& surroundings,
                                             Purpose purpose) {
  absl::StatusOr<CommandLine> result = Parse(args, surroundings, purpose);
  // Names of files and hosts come back in messages of others.
  if (!result.ok()) return InvalidArgument("{}", OneLine(MessageOf(result.status())));
  return result;
}

}  // namespace tunnel::tools
