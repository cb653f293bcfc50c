#include "tools/check_command.h"

#include <signal.h>

#include <algorithm>
#include <iterator>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/log.h"
#include "core/process.h"
#include "tools/flag_values.h"
#include "tools/flags.h"

namespace tunnel::tools {
namespace {

using net::CheckOutcome;
using net::CheckStep;

constexpr int kFirstExitStatus = 10;

int ExitStatusOfStep(net::CheckStepId id) { return kFirstExitStatus + static_cast<int>(id); }

double MillisecondsOf(const CheckStep& step) { return std::chrono::duration<double, std::milli>(step.took).count(); }

const CheckStep* FirstFailed(std::span<const CheckStep> steps) {
  const auto failed = std::ranges::find(steps, CheckOutcome::kFailed, &CheckStep::outcome);
  return failed == steps.end() ? nullptr : &*failed;
}

std::string_view OutcomeText(CheckOutcome outcome) {
  switch (outcome) {
    case CheckOutcome::kOk:
      return "ok";
    case CheckOutcome::kFailed:
      return "failed";
    case CheckOutcome::kSkipped:
      return "skipped";
  }
  return "";
}

}  // namespace

int CheckExitStatus(std::span<const CheckStep> steps) {
  const CheckStep* const failed = FirstFailed(steps);
  return failed == nullptr ? 0 : ExitStatusOfStep(failed->id);
}

std::string CheckText(std::span<const CheckStep> steps) {
  std::string text;
  for (const CheckStep& step : steps) {
    const std::string_view mark = step.outcome == CheckOutcome::kFailed    ? "FAILED"
                                  : step.outcome == CheckOutcome::kSkipped ? "-"
                                                                           : "ok";
    const std::string took =
        step.outcome == CheckOutcome::kSkipped ? "" : fmt::format("{:.1f} ms", MillisecondsOf(step));
    fmt::format_to(std::back_inserter(text), "{:<7}{:<12}{:>10}  {}\n", mark, net::NameOf(step.id), took,
                   OneLine(step.summary));
    for (const auto& [what, says] : step.details) {
      fmt::format_to(std::back_inserter(text), "{:31}{}: {}\n", "", what, OneLine(says));
    }
  }
  const CheckStep* const failed = FirstFailed(steps);
  if (failed == nullptr) return text + "all is well\n";
  return text + fmt::format("failed at {}: {}\n", net::NameOf(failed->id), OneLine(failed->summary));
}

std::string CheckJson(std::span<const CheckStep> steps) {
  nlohmann::ordered_json report;
  report["ok"] = FirstFailed(steps) == nullptr;
  report["exit_status"] = CheckExitStatus(steps);
  report["steps"] = nlohmann::ordered_json::array();
  for (const CheckStep& step : steps) {
    nlohmann::ordered_json one;
    one["name"] = net::NameOf(step.id);
    one["outcome"] = OutcomeText(step.outcome);
    one["milliseconds"] = MillisecondsOf(step);
    one["summary"] = step.summary;
    one["details"] = step.details;
    report["steps"].push_back(std::move(one));
  }
  // What came from outside need not be UTF-8.
  return report.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

std::string CheckHelp() {
  std::string statuses;
  for (size_t i = 0; i < net::kCheckSteps; ++i) {
    const auto id = static_cast<net::CheckStepId>(i);
    statuses += fmt::format("{}{} {}", i == 0 ? "" : ", ", ExitStatusOfStep(id), net::NameOf(id));
  }
  return "ech-tunnel check -f wss://host:port/path [the client's other flags] [-json]\n"
         "\n"
         "Goes the way of a client's dial to the server step by step, and says of each what was found, how long it "
         "took\n"
         "and, where it fails, why: the DoH resolvers, each by itself, the HTTPS record and its ECHConfigList, the\n"
         "addresses, TCP, TLS, whether ECH was accepted, the certificate, the upgrade, the protocol, the round trip.\n"
         "A list that the server rejects fails the step ech even where the retry configs it sends are accepted: "
         "clients\n"
         "get in, and what is published is stale. Flags, variables and -config are the client's; -l is not needed.\n"
         "\n"
         "  -json   prints the report as one JSON object: ok, exit_status, and steps with name, outcome, "
         "milliseconds,\n"
         "          summary and details\n"
         "\n"
         "Exit status: 0 all is well; 2 the command line or a file is at fault; 1 the system refused, or a signal; "
         "else\n"
         "the first step that failed: " +
         statuses + ".\n";
}

absl::StatusOr<CheckOutput> RunCheckCommand(std::span<const std::string> args, const Surroundings& surroundings) {
  std::vector<std::string> flags(args.begin(), args.end());
  const bool json = std::erase_if(flags, [](const std::string& arg) { return arg == "-json" || arg == "--json"; }) > 0;
  absl::StatusOr<CommandLine> command = ParseCommandLine(flags, surroundings, Purpose::kCheckServer);
  if (!command.ok()) return command.status();
  if (command->action == Action::kHelp) return CheckOutput{.text = CheckHelp()};
  core::RaiseOpenFilesLimit();
  core::BlockSignals({SIGTERM, SIGINT});
  core::StartLog(command->config.log_level, command->config.log_format);
  auto steps = net::RunServerCheck(command->config);
  spdlog::shutdown();  // layers: allow, no socket
  if (!steps.ok()) return steps.status();
  return CheckOutput{.text = json ? CheckJson(*steps) : CheckText(*steps), .exit_status = CheckExitStatus(*steps)};
}

}  // namespace tunnel::tools
