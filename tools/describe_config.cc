#include <algorithm>
#include <functional>
#include <iterator>

#include "net/peer_verifier.h"
#include "proto/target.h"
#include "proto/url.h"
#include "tools/flag_parser.h"
#include "tools/flag_values.h"
#include "tools/flags.h"

namespace tunnel::tools {
namespace {

// `name=value name=value`, in quotes where a value would run into the next.
class Line {
 public:
  explicit Line(std::string_view start) : text_(start) {}

  void Add(std::string_view name, std::string_view value) {
    std::string shown = OneLine(value);
    if (shown.empty() || shown.find_first_of(" \"") != std::string::npos) shown = fmt::format("\"{}\"", shown);
    fmt::format_to(std::back_inserter(text_), " {}={}", name, shown);
  }
  void Add(std::string_view name, bool value) { Add(name, std::string_view(value ? "on" : "off")); }
  void AddUnlessEmpty(std::string_view name, const std::string& value) {
    if (!value.empty()) Add(name, std::string_view(value));
  }
  // A list, each item put into words by `text_of`; nothing when there are none.
  template <typename Items, typename TextOf>
  void AddList(std::string_view name, const Items& items, TextOf text_of) {
    std::string list;
    for (const auto& item : items) {
      fmt::format_to(std::back_inserter(list), "{}{}", list.empty() ? "" : ",", text_of(item));
    }
    AddUnlessEmpty(name, list);
  }

  [[nodiscard]] std::string Take() && { return std::move(text_); }

 private:
  std::string text_;
};

std::string PinText(const std::string& bytes) {
  net::Pin pin{};
  std::copy_n(bytes.begin(), std::min(bytes.size(), pin.size()), pin.begin());
  return net::FormatPin(pin);
}

std::string EchText(const net::Config& config) {
  if (config.fallback) return "off";
  return config.ech_config_list.empty() ? config.ech_name : "given";
}

void DescribeClient(const net::Config& config, Line& line) {
  const proto::Target server{.host = config.server_host, .port = config.server_port};
  line.Add("server", fmt::format("wss://{}{}", proto::ToString(server), config.server_path));
  line.AddList("ip", config.server_addresses,
               [](const core::SocketAddress& ip) { return ip.is_unix() ? ip.ToString() : ip.ip(); });
  line.Add("channels", fmt::format("{}", config.channels));
  line.Add("ech", EchText(config));
  line.AddList("dns", config.doh_urls, std::identity{});
  line.Add("proto", std::string_view(config.protocol == net::Protocol::kLegacy   ? "legacy"
                                     : config.protocol == net::Protocol::kNative ? "native"
                                                                                 : "auto"));
}

void DescribeServer(const net::Config& config, Line& line) {
  line.AddList("cidr", config.admitted, [](const proto::Cidr& cidr) { return proto::ToString(cidr); });
  if (config.channels_per_source != net::kChannelsPerSource) {
    line.Add("channels-per-source", fmt::format("{}", config.channels_per_source));
  }
  line.Add("cert", std::string_view(config.certificate_file.empty() ? "made" : config.certificate_file));
  line.AddUnlessEmpty("key", config.key_file);
  line.AddList("name", config.names, std::identity{});
  line.AddUnlessEmpty("ech-keys", config.ech_key_directory);
  line.AddUnlessEmpty("ech-public-name", config.ech_public_name);
  if (config.ech_rotate.count() > 0) line.Add("ech-rotate", ToString(config.ech_rotate));
  if (config.ech_publish_delay.count() > 0) line.Add("ech-publish-delay", ToString(config.ech_publish_delay));
  line.Add("require-ech", config.require_ech);
  line.Add("serve-dns", config.serve_dns);
  if (config.outbound.has_value()) line.Add("out", std::string_view(config.outbound->description));
  const auto rule_text = [](const net::TargetRule& rule) { return ToString(rule); };
  line.AddList("allow-target", config.allow_target, rule_text);
  line.AddList("deny-target", config.deny_target, rule_text);
  line.AddList("allow-reverse", config.allow_reverse, [](const net::TargetRule& rule) {
    const bool every_port = rule.first_port == 1 && rule.last_port == 65535;
    return fmt::format("{}{}", ToString(rule), every_port ? ":*" : "");
  });
}

std::string_view BackendText(core::BackendChoice choice) {
  switch (choice) {
    case core::BackendChoice::kAuto:
      return "auto";
    case core::BackendChoice::kUring:
      return "io_uring";
    case core::BackendChoice::kEpoll:
      return "epoll";
  }
  return "";
}

}  // namespace

std::string DescribeConfig(const net::Config& config) {
  Line line(config.is_server() ? "effective configuration: server" : "effective configuration: client");
  line.AddList("listen", config.listen,
               [](const net::ListenSpec& spec) { return proto::WithoutCredentials(spec.description); });
  line.Add("token", std::string_view(config.token.empty() ? "none" : "***"));
  if (config.is_server()) {
    DescribeServer(config, line);
  } else {
    DescribeClient(config, line);
  }
  line.AddUnlessEmpty("ca", config.ca_file);
  line.AddList("pin", config.pins, PinText);
  line.AddUnlessEmpty("state", config.state_directory);
  line.Add("backend", BackendText(config.reactor.backend));
  line.Add("threads", config.threads == 0 ? std::string("auto") : fmt::format("{}", config.threads));
  line.AddList("disable-feature", config.reactor.backend_options.disabled_features, std::identity{});
  line.AddUnlessEmpty("congestion", config.reactor.congestion_control);
  line.Add("log-level", std::string_view(config.log_level));
  line.Add("log-format", std::string_view(config.log_format == core::LogFormat::kJson ? "json" : "text"));
  return std::move(line).Take();
}

}  // namespace tunnel::tools
