// The command line: a line an argument, lines that begin with ECH_TUNNEL_ are variables. Whatever is given, the answer
// is a consistent configuration or one line, and neither tells anything about a token or a password.
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "core/check.h"
#include "tools/flag_values.h"
#include "tools/flags.h"

namespace {

using tunnel::MessageOf;
using tunnel::net::Config;
using tunnel::net::ListenKind;
using tunnel::net::ListenSpec;
using tunnel::tools::CommandLine;
using tunnel::tools::DescribeConfig;
using tunnel::tools::ToString;

class FuzzSurroundings final : public tunnel::tools::Surroundings {
 public:
  [[nodiscard]] const std::map<std::string, std::string>& variables() const override { return variable; }
  [[nodiscard]] std::string HostName() const override { return "host.example"; }
  [[nodiscard]] absl::StatusOr<std::string> ReadFile(const std::string& path) const override {
    if (path != "list") return tunnel::NotFound("{}: none", path);
    return "AEL+DQA+9wAgACAuNgsV4qJ52YJEIgkf8lWrqWNReus0W90zt04zbstAcgAIAAEAAQABAANAC3B1Yi5leGFtcGxlAAA=\n";
  }
  [[nodiscard]] absl::Status CheckReadable(const std::string& path) const override {
    return path.ends_with(".pem") ? absl::OkStatus() : tunnel::NotFound("none");
  }
  [[nodiscard]] bool IsWorldReadable(const std::string& /*path*/) const override { return false; }
  [[nodiscard]] bool HasCongestionControl(const std::string& name) const override { return name == "cubic"; }

  std::map<std::string, std::string> variable = {{"HOME", "/home/u"}};
};

bool IsTokenFlag(std::string_view argument) { return argument == "-token" || argument == "--token"; }

// Parses the input with `secret` put before every token in it.
absl::StatusOr<CommandLine> ParseWith(std::string_view input, std::string_view secret) {
  std::vector<std::string> args;
  FuzzSurroundings surroundings;
  bool after_token = false;
  for (bool more = true; more;) {
    const size_t end = input.find('\n');
    more = end != std::string_view::npos;
    std::string argument(input.substr(0, end));
    if (more) input.remove_prefix(end + 1);

    const size_t equals = argument.find('=');
    if (!after_token && argument.starts_with("ECH_TUNNEL_") && equals != std::string::npos) {
      std::string value = argument.substr(equals + 1);
      argument.resize(equals);
      if (argument == "ECH_TUNNEL_TOKEN") value.insert(0, secret);
      surroundings.variable[argument] = value;
      continue;
    }
    const bool token_flag = IsTokenFlag(argument);
    if (after_token) {
      argument.insert(0, secret);
    } else if (equals != std::string::npos && IsTokenFlag(std::string_view(argument).substr(0, equals))) {
      argument.insert(equals + 1, secret);
    }
    after_token = token_flag && !after_token;
    args.push_back(std::move(argument));
  }
  return tunnel::tools::ParseCommandLine(args, surroundings);
}

void CheckOneLine(std::string_view text) {
  for (const char c : text) TUNNEL_CHECK(static_cast<unsigned char>(c) >= 0x20 && c != 0x7f);
}

void CheckConsistent(const Config& config) {
  TUNNEL_CHECK(!config.listen.empty());
  for (const ListenSpec& spec : config.listen) {
    const bool server = spec.kind == ListenKind::kServerTls || spec.kind == ListenKind::kServerPlain;
    TUNNEL_CHECK(server == config.is_server());
    TUNNEL_CHECK(spec.address.valid());
    TUNNEL_CHECK(!server || spec.path.starts_with('/'));
    TUNNEL_CHECK(spec.kind != ListenKind::kUdpForward || (spec.target.port != 0 && !spec.address.is_unix()));
    TUNNEL_CHECK(spec.kind != ListenKind::kReverse || !spec.address.is_unix());
    TUNNEL_CHECK((spec.kind != ListenKind::kForward && spec.kind != ListenKind::kReverse) || spec.target.port != 0 ||
                 tunnel::proto::IsUnixTarget(spec.target.host));
    TUNNEL_CHECK(spec.user.empty() == spec.password.empty());
    TUNNEL_CHECK(spec.user.empty() || spec.description.find("***@") != std::string::npos);
  }
  TUNNEL_CHECK(config.is_server() || !config.outbound.has_value());
  if (config.is_server()) {
    TUNNEL_CHECK(config.server_host.empty());
    TUNNEL_CHECK(!config.admitted.empty());
    TUNNEL_CHECK(config.certificate_file.empty() == config.key_file.empty());
  } else {
    TUNNEL_CHECK(!config.server_host.empty() && config.server_port != 0 && config.server_path.starts_with('/'));
    TUNNEL_CHECK(config.channels >= 1 && !config.doh_urls.empty());
    // Exactly one way to ECH, or none and said so.
    TUNNEL_CHECK(static_cast<int>(config.fallback) + static_cast<int>(!config.ech_config_list.empty()) +
                     static_cast<int>(!config.ech_name.empty()) ==
                 1);
  }
  TUNNEL_CHECK(config.is_server() || config.allow_reverse.empty());
  for (const auto& rule : config.allow_reverse) TUNNEL_CHECK(rule.kind == tunnel::net::TargetRule::Kind::kNetwork);
  for (const auto& rules : {config.allow_target, config.deny_target}) {
    for (const auto& rule : rules) {
      const auto again = tunnel::tools::ParseTargetRule(ToString(rule));
      TUNNEL_CHECK(again.ok() && ToString(*again) == ToString(rule));
    }
  }
}

// The description must be the same whatever the secrets are.
void CheckSecretsUnseen(Config config) {
  const std::string described = DescribeConfig(config);
  CheckOneLine(described);
  if (!config.token.empty()) config.token = "another";
  for (ListenSpec& spec : config.listen) {
    if (!spec.user.empty()) spec.user = spec.password = "another";
  }
  if (config.outbound && config.outbound->credentials) config.outbound->credentials->password = "another";
  TUNNEL_CHECK(DescribeConfig(config) == described);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const absl::StatusOr<CommandLine> first = ParseWith(input, "First-Secret-Of-Two");
  const absl::StatusOr<CommandLine> second = ParseWith(input, "0ther=Secret,0f-Two");
  TUNNEL_CHECK(first.ok() == second.ok());
  if (!first.ok()) {
    TUNNEL_CHECK(!MessageOf(first.status()).empty() && MessageOf(first.status()) == MessageOf(second.status()));
    CheckOneLine(MessageOf(first.status()));
    return 0;
  }
  TUNNEL_CHECK(first->action == second->action && first->warnings == second->warnings);
  if (first->action != tunnel::tools::Action::kRun) return 0;
  CheckConsistent(first->config);
  CheckSecretsUnseen(first->config);
  TUNNEL_CHECK(DescribeConfig(first->config) == DescribeConfig(second->config));
  return 0;
}
