// `ech-tunnel check`: the report of net::CheckServer for people and for programs.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "core/status.h"
#include "net/server_check.h"
#include "tools/surroundings.h"

namespace tunnel::tools {

// 0 when no step failed, else the first one's that did: 10 for doh, 11 for record, and so on in the steps' order.
[[nodiscard]] int CheckExitStatus(std::span<const net::CheckStep> steps);

// A line a step, what it found indented below it, and a last line that says how it stands.
[[nodiscard]] std::string CheckText(std::span<const net::CheckStep> steps);

// One JSON object: "ok", "exit_status", and "steps", of which each has "name", "outcome" (ok, failed, skipped),
// "milliseconds", "summary" and "details", an array of [what, says].
[[nodiscard]] std::string CheckJson(std::span<const net::CheckStep> steps);

[[nodiscard]] std::string CheckHelp();

struct CheckOutput {
  std::string text;
  int exit_status = 0;
};

// The verb with the arguments behind it. Fails with kInvalidArgument or kNotFound when they, or a file that they name,
// are at fault, with kCancelled after a signal, with another code when the system refused.
[[nodiscard]] absl::StatusOr<CheckOutput> RunCheckCommand(std::span<const std::string> args,
                                                          const Surroundings& surroundings);

}  // namespace tunnel::tools
