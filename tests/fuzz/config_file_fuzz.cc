// A configuration file, TOML or JSON. Whatever is in it, the answer is a consistent configuration or one line; and what
// -check-config prints of it holds no secret and is read back as the same.
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "core/check.h"
#include "tools/config_file.h"
#include "tools/flags.h"

namespace {

using tunnel::MessageOf;
using tunnel::tools::CommandLine;
using tunnel::tools::GivenFlag;

class FuzzSurroundings final : public tunnel::tools::Surroundings {
 public:
  explicit FuzzSurroundings(std::string_view config) : config_(config) {}

  [[nodiscard]] const std::map<std::string, std::string>& variables() const override { return variables_; }
  [[nodiscard]] std::string HostName() const override { return "host.example"; }
  [[nodiscard]] absl::StatusOr<std::string> ReadFile(const std::string& path) const override {
    if (path == "conf") return std::string(config_);
    if (path == "/token") return std::string("0penSesame\n");
    return tunnel::NotFound("none");
  }
  [[nodiscard]] absl::Status CheckReadable(const std::string& path) const override {
    return path.ends_with(".pem") ? absl::OkStatus() : tunnel::NotFound("none");
  }
  [[nodiscard]] bool IsWorldReadable(const std::string& path) const override { return path == "conf"; }
  [[nodiscard]] bool HasCongestionControl(const std::string& name) const override { return name == "cubic"; }

 private:
  std::string_view config_;
  std::map<std::string, std::string> variables_ = {{"HOME", "/home/u"}};
};

absl::StatusOr<CommandLine> Load(std::string_view config) {
  const std::vector<std::string> args = {"-config", "conf"};
  return tunnel::tools::ParseCommandLine(args, FuzzSurroundings(config));
}

void CheckLine(std::string_view text) {
  TUNNEL_CHECK(!text.empty());
  for (const char c : text) TUNNEL_CHECK(static_cast<unsigned char>(c) >= 0x20 && c != 0x7f);
}

// The same settings under other secrets must look the same.
void CheckSecretsUnseen(const CommandLine& command, const std::string& shown) {
  CommandLine other = command;
  for (GivenFlag& setting : other.settings) {
    if (setting.spec->name == "token" && tunnel::tools::HoldsSecret(setting)) setting.value = "another";
  }
  if (!other.config.token.empty()) other.config.token = "another";
  TUNNEL_CHECK(tunnel::tools::EffectiveToml(other, {}) == shown);
}

// Lines without the comments that say where a value stands.
std::string Settings(std::string_view text) {
  std::string rest;
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    if (!line.starts_with('#')) rest += std::string(line.substr(0, line.rfind("  # "))) + "\n";
  }
  return rest;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const absl::StatusOr<CommandLine> loaded = Load(input);
  if (!loaded.ok()) {
    TUNNEL_CHECK(loaded.status().code() == absl::StatusCode::kInvalidArgument);
    CheckLine(MessageOf(loaded.status()));
    // Quoted values are cut, so a message has a length of its own.
    TUNNEL_CHECK(MessageOf(loaded.status()).size() < 2048);
    return 0;
  }
  TUNNEL_CHECK(loaded->action == tunnel::tools::Action::kRun && !loaded->config.listen.empty());
  for (const std::string& warning : loaded->warnings) CheckLine(warning);
  const std::string shown = tunnel::tools::EffectiveToml(*loaded, {});
  CheckSecretsUnseen(*loaded, shown);
  const absl::StatusOr<CommandLine> again = Load(shown);
  TUNNEL_CHECK(again.ok());
  TUNNEL_CHECK(Settings(tunnel::tools::EffectiveToml(*again, {})) == Settings(shown));
  return 0;
}
