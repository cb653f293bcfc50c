// A configuration file as flags: what it says takes the same way as a command line.
//
// TOML, whose keys are the flags' names without the dash; an array stands for a flag that is repeated or takes a list.
// Or JSON, with those keys or with those of the forks: listen, forward, connections, and ip, cert, key, token, cidr,
// dns, ech, fallback, which are the flags' own. In JSON null, "" and 0 connections say nothing, as in the forks.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/status.h"
#include "tools/flag_parser.h"

namespace tunnel::tools {

// A whole server's rules are some KiB.
inline constexpr size_t kConfigFileLimitBytes = size_t{256} * 1024;

// The flags that `text`, the content of file `path`, gives. `specs` are those that may stand in a file; they must
// outlive the result. Fails with kInvalidArgument and one line that names the file, the line and the key, what is wrong
// with the value (never quoting a secret) and what is expected.
[[nodiscard]] absl::StatusOr<std::vector<GivenFlag>> ParseConfigFile(std::string_view text, std::string_view path,
                                                                     std::span<const FlagSpec* const> specs);

// Whether the value holds what nobody else should read: a token, or a URL with credentials.
[[nodiscard]] bool HoldsSecret(const GivenFlag& flag);

}  // namespace tunnel::tools
