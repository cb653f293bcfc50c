// The program: a list of inits and its mirror.
#include <signal.h>

#include <cstdio>
#include <string>
#include <vector>

#include "core/log.h"
#include "core/process.h"
#include "net/check_files.h"
#include "net/run.h"
#include "tools/flags.h"
#include "tools/surroundings.h"
#include "tools/verbs.h"

namespace tunnel::tools {
namespace {

// Below this the tunnel works and a busy one runs out: every connection takes one, and channels and listeners some.
constexpr uint64_t kFewOpenFiles = 4096;

int Complain(const absl::Status& status) {
  fmt::print(stderr, "ech-tunnel: {}\n", MessageOf(status));
  return ExitStatusOf(status);
}

// Standard output may be a file on a full disk.
int Print(const std::string& text) {
  const bool written = std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0;
  return written ? 0 : Complain(Internal("standard output cannot be written"));
}

int Run(const CommandLine& command) {
  const uint64_t open_files = core::RaiseOpenFilesLimit();
  core::BlockSignals({SIGTERM, SIGINT, SIGHUP, SIGUSR1});
  core::StartLog(command.config.log_level, command.config.log_format);
  const auto log_configuration = [&] {
    spdlog::info("{}", DescribeConfig(command.config));
    for (const std::string& warning : command.warnings) spdlog::warn("{}", warning);
    if (open_files < kFewOpenFiles) {
      spdlog::warn(
          "at most {} files may be open, and every connection takes one: raise the hard limit (ulimit -Hn, "
          "LimitNOFILE= in a unit) to {} or more",
          open_files, kFewOpenFiles);
    }
  };
  const absl::Status ended = net::RunTunnel(command.config, log_configuration);
  spdlog::shutdown();  // layers: allow, no socket
  return ended.ok() ? 0 : Complain(ended);
}

int Main(const std::vector<std::string>& args) {
  if (HasVerb(args)) {
    const absl::StatusOr<VerbOutput> output = RunVerb(args);
    if (!output.ok()) return Complain(output.status());
    const int printed = Print(output->text);
    return printed != 0 ? printed : output->exit_status;
  }
  const SystemSurroundings surroundings;
  const absl::StatusOr<CommandLine> command = ParseCommandLine(args, surroundings);
  if (!command.ok()) return Complain(command.status());
  switch (command->action) {
    case Action::kHelp:
      return Print(HelpText());
    case Action::kVersion:
      return Print(VersionText());
    case Action::kCheckConfig: {
      const absl::StatusOr<std::vector<std::string>> notes = net::CheckFiles(command->config);
      return notes.ok() ? Print(EffectiveToml(*command, *notes)) : Complain(notes.status());
    }
    case Action::kRun:
      break;
  }
  return Run(*command);
}

}  // namespace
}  // namespace tunnel::tools

int main(int argc, char** argv) {
  return tunnel::tools::Main(std::vector<std::string>(argv + (argc > 0 ? 1 : 0), argv + argc));
}
