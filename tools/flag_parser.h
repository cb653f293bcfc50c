// How a command line is cut into flags, before anything is known of what they mean.
//
// One or two dashes, `-x value` or `-x=value`; a boolean is `-x` or `-x=false`. These are the rules of Go's flag
// package, so that command lines of the original program mean here what they meant there, with two exceptions: an
// argument that belongs to no flag is an error instead of the silent end of the flags, and a flag is not taken for the
// value of the one before it (unless that one is a secret).
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/status.h"

namespace tunnel::tools {

// Whether a value may be quoted in a message.
enum class Secrecy { kPublic, kSecret };

// What cutting needs to know of a flag. The views are to literals.
struct FlagSpec {
  std::string_view name;      // without dashes
  std::string_view argument;  // what stands for the value in help, "ADDRESS"; empty: a boolean
  bool repeatable = false;
  Secrecy secrecy = Secrecy::kPublic;

  [[nodiscard]] bool boolean() const { return argument.empty(); }
};

// A flag as it was given. Booleans have the value "true" or "false".
struct GivenFlag {
  const FlagSpec* spec = nullptr;  // one of those given to SplitArguments
  std::string value;
  std::string source;  // "-token", "ECH_TUNNEL_TOKEN" or "tunnel.toml:3: token": what a message about it begins with
  std::string origin;  // where it stands, in words: "command line", "environment", "tunnel.toml:3"
};

// Cuts `args` (without the program's name) by `specs`, which must outlive the result. Fails with kInvalidArgument and
// one line that names the flag on an unknown flag, a missing value, a boolean that is neither true nor false, an
// argument that belongs to no flag, and a second value for a flag that is not repeatable. The line never holds the
// value of a secret flag, nor what follows one.
[[nodiscard]] absl::StatusOr<std::vector<GivenFlag>> SplitArguments(std::span<const std::string> args,
                                                                    std::span<const FlagSpec* const> specs);

// The "true" or "false" that `text` stands for, in the spellings that Go accepts. Fails with a clause to be put after
// the flag's name.
[[nodiscard]] absl::StatusOr<std::string> ParseBoolean(std::string_view text);

// The candidate that `word` is most likely a misspelling of; empty when none is near.
[[nodiscard]] std::string_view NearestOf(std::string_view word, std::span<const std::string_view> candidates);

// ` (did you mean PREFIXfoo?)`, or nothing when none is near.
[[nodiscard]] std::string DidYouMean(std::string_view word, std::span<const std::string_view> candidates,
                                     std::string_view prefix);

// `text` in double quotes, control characters escaped, cut where it grows long.
[[nodiscard]] std::string Quoted(std::string_view text);

// `text` with control characters escaped, so that it is one line and cannot steer a terminal.
[[nodiscard]] std::string OneLine(std::string_view text);

}  // namespace tunnel::tools
