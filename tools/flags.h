// The command line of the tunnel itself: flags and environment to a checked net::Config.
//
// The environment (ECH_TUNNEL_TOKEN for -token and so on) beats the defaults, the command line beats the environment.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/status.h"
#include "net/config.h"
#include "tools/surroundings.h"

namespace tunnel::tools {

enum class Action { kRun, kHelp, kVersion };

struct CommandLine {
  Action action = Action::kRun;
  net::Config config;                 // kRun: complete and consistent
  std::vector<std::string> warnings;  // for the log: allowed, but worth a second thought
};

// Reads `args` (without the program's name) and the variables of `surroundings`. Fails with kInvalidArgument and one
// line that names the flag or variable, its value and what is expected; never the value of a secret.
[[nodiscard]] absl::StatusOr<CommandLine> ParseCommandLine(std::span<const std::string> args,
                                                           const Surroundings& surroundings);

// The environment variable that stands for a flag: "ech-config" gives "ECH_TUNNEL_ECH_CONFIG".
[[nodiscard]] std::string VariableOf(std::string_view flag);

// What -h prints, for a terminal of 100 columns.
[[nodiscard]] std::string HelpText();

// The command lines that -h shows, as arguments; the tests hold them to what they promise.
[[nodiscard]] std::vector<std::vector<std::string>> HelpExamples();

// The configuration in effect as one line for the log. Tokens and passwords are masked.
[[nodiscard]] std::string DescribeConfig(const net::Config& config);

}  // namespace tunnel::tools
