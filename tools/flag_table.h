// The one table of flags: what parsing, checking, the environment and -h all read.
#pragma once

#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/status.h"
#include "net/config.h"
#include "tools/flag_parser.h"
#include "tools/surroundings.h"

namespace tunnel::tools {

// The flags that the command line itself looks for.
inline constexpr std::string_view kConfigFlag = "config";
inline constexpr std::string_view kCheckConfigFlag = "check-config";

// Which end of the tunnel a flag is for.
enum class Side { kBoth, kClient, kServer, kProcess };

// A configuration while flags are put into it.
struct Draft {
  explicit Draft(const Surroundings& system) : surroundings(system) {}

  const Surroundings& surroundings;
  net::Config config;
  bool ech_of_server = false;         // -ech auto
  std::vector<std::string> warnings;  // for the log: allowed, but worth a second thought
  // The flags that were given, by name, and where: "-n", "ECH_TUNNEL_N" or "tunnel.toml:3: n".
  std::map<std::string_view, std::string> given;

  [[nodiscard]] bool Has(std::string_view flag) const { return given.contains(flag); }
};

// The views are to literals. `set` puts a value into the draft or fails with a clause to be put after the flag's name;
// that of a secret flag must not quote the value. Null for what is an action, not a setting: -h, -version.
struct Flag {
  FlagSpec spec;
  Side side = Side::kBoth;
  std::string_view default_text;  // empty: what `help` says
  std::string_view help;
  absl::Status (*set)(std::string_view value, Draft& draft) = nullptr;
};

// Whether the flag may stand in a configuration file: it is a setting, and does not name the file itself.
[[nodiscard]] bool InFile(const Flag& flag);

// In the order of -h.
[[nodiscard]] std::span<const Flag> FlagTable();

}  // namespace tunnel::tools
