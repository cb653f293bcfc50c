// The command line of the tunnel itself: flags and environment to a checked net::Config.
//
// The command line beats the environment (ECH_TUNNEL_TOKEN for -token and so on), which beats the file that -config
// names, which beats the defaults; what one of them says of a flag replaces all that the next says of it.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/status.h"
#include "net/config.h"
#include "tools/flag_parser.h"
#include "tools/surroundings.h"

namespace tunnel::tools {

// What a command line is read for. To check a server no listener is needed, and the side is the client's.
enum class Purpose { kRun, kCheckServer };

enum class Action { kRun, kCheckConfig, kHelp, kVersion };

// What stands for a secret where a configuration is shown.
inline constexpr std::string_view kSecretMask = "***";

struct CommandLine {
  Action action = Action::kRun;
  net::Config config;                 // kRun, kCheckConfig: complete and consistent
  std::vector<GivenFlag> settings;    // what it was made of: the flags given, wherever they were
  std::vector<std::string> warnings;  // for the log: allowed, but worth a second thought
};

// Reads `args` (without the program's name) and the variables of `surroundings`. Fails with kInvalidArgument and one
// line that names the flag or variable, its value and what is expected; never the value of a secret.
[[nodiscard]] absl::StatusOr<CommandLine> ParseCommandLine(std::span<const std::string> args,
                                                           const Surroundings& surroundings,
                                                           Purpose purpose = Purpose::kRun);

// The environment variable that stands for a flag: "ech-config" gives "ECH_TUNNEL_ECH_CONFIG".
[[nodiscard]] std::string VariableOf(std::string_view flag);

// What -h prints, for a terminal of 100 columns.
[[nodiscard]] std::string HelpText();

// The command lines that -h shows, as arguments; the tests hold them to what they promise.
[[nodiscard]] std::vector<std::vector<std::string>> HelpExamples();

// The configuration in effect as a file for -config that gives it again, but for its secrets, which are masked. Where
// each value came from is in comments, and so are the defaults and `notes`, a line each.
[[nodiscard]] std::string EffectiveToml(const CommandLine& command, std::span<const std::string> notes);

// The configuration in effect as one line for the log. Tokens and passwords are masked.
[[nodiscard]] std::string DescribeConfig(const net::Config& config);

}  // namespace tunnel::tools
