// What ech-tunnel does besides being a tunnel: `ech-tunnel VERB ...`.
#pragma once

#include <span>
#include <string>

#include "core/status.h"

namespace tunnel::tools {

// Whether the arguments (without the program's name) begin with a verb, known or not, instead of a flag.
[[nodiscard]] bool HasVerb(std::span<const std::string> args);

struct VerbOutput {
  std::string text;     // for standard output
  int exit_status = 0;  // what was found, where the verb asks a question
};

// Does what the verb says. Fails with one line: kInvalidArgument and kNotFound when the command line or a file that it
// names is at fault, any other code when the system refused.
[[nodiscard]] absl::StatusOr<VerbOutput> RunVerb(std::span<const std::string> args);

// Version of the program, the compiler and the libraries, and what this kernel grants, a line each.
[[nodiscard]] std::string VersionText();

// The exit status for a failure: 2 when the user said something wrong, 1 when the system refused.
[[nodiscard]] int ExitStatusOf(const absl::Status& status);

}  // namespace tunnel::tools
