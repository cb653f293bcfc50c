// Runs the tunnel, its applications and its targets in simulated worlds, one a seed, and says whether what must hold
// held. See docs/testing.md.
#include <fmt/format.h>
#include <signal.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <string>
#include <string_view>

#include "arguments.h"
#include "run_seed.h"

namespace tunnel::simulation {
namespace {

// Enough to see what is wrong.
constexpr uint64_t kMostViolating = 20;

// Set by SIGINT and SIGTERM: the totals of what was run are still wanted.
volatile sig_atomic_t interrupted = 0;
void OnInterrupt(int number) { interrupted = number; }

// The command that runs again what runs now.
std::string current_replay;

// An invariant broke inside the program: the history that led there is what helps.
void OnCrash(int number) {
  const std::string text = CurrentRun() + "\nCRASHED; replay: " + current_replay + "\n";
  (void)!write(STDERR_FILENO, text.data(), text.size());
  signal(number, SIG_DFL);
  raise(number);
}

class Totals {
 public:
  explicit Totals(const Arguments& arguments) : arguments_(arguments) {}

  // One run, or two of the same. False: enough is wrong.
  bool Run(const SeedOptions& options, bool twice);
  // Faults of the last one.
  [[nodiscard]] uint64_t last_faults() const { return last_faults_; }
  [[nodiscard]] bool TimeIsUp() const { return arguments_.seconds.has_value() && Elapsed() > *arguments_.seconds; }
  // Prints them; the exit status.
  int Conclude() const;

 private:
  [[nodiscard]] double Elapsed() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

  const Arguments& arguments_;
  const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  core::SimFaultCounts faults_;
  uint64_t last_faults_ = 0;
  uint64_t last_seed_ = 0;
  uint64_t runs_ = 0;
  uint64_t violating_ = 0;
  uint64_t compared_ = 0;
  uint64_t streams_ = 0;
  uint64_t whole_ = 0;
  uint64_t bytes_ = 0;
  uint64_t datagrams_ = 0;
  uint64_t answered_ = 0;
  int64_t virtual_ms_ = 0;
  size_t most_memory_ = 0;
};

void PrintFailure(const SeedOptions& options, const SeedResult& result) {
  fmt::print("\nseed {} VIOLATES:\n", options.seed);
  for (const std::string& violation : result.violations) fmt::print("  - {}\n", violation);
  fmt::print("its scenario:\n{}faults: {}\nthe end of its history:\n", result.scenario, result.faults.Describe());
  // The last lines; all that were kept with --trace.
  std::string_view trace = result.trace;
  constexpr size_t kMostBytes = 4000;
  if (trace.size() > kMostBytes && !options.want_trace) {
    trace = trace.substr(trace.find('\n', trace.size() - kMostBytes) + 1);
  }
  fmt::print("{}replay: {}\n\n", trace, ReplayOf(options));
  (void)fflush(stdout);
}

bool Totals::Run(const SeedOptions& options, bool twice) {
  current_replay = ReplayOf(options);
  SeedResult result = RunSeed(options);
  if (twice) {
    ++compared_;
    const SeedResult again = RunSeed(options);
    if (again.hash != result.hash || again.events != result.events) {
      result.violations.push_back(fmt::format("two histories of one seed: {:016x} of {} events, {:016x} of {}",
                                              result.hash, result.events, again.hash, again.events));
    }
  }
  ++runs_;
  last_seed_ = options.seed;
  last_faults_ = result.faults.total();
  faults_.Add(result.faults);
  streams_ += result.streams;
  whole_ += result.streams_whole;
  bytes_ += result.bytes;
  datagrams_ += result.datagrams;
  answered_ += result.datagrams_answered;
  virtual_ms_ += result.virtual_ms;
  most_memory_ = std::max(most_memory_, result.most_memory);
  if (!result.violations.empty()) {
    ++violating_;
    PrintFailure(options, result);
  }
  if (arguments_.single && arguments_.sweep == Sweep::kNone) {
    if (result.violations.empty()) fmt::print("{}", result.scenario);
    fmt::print("hash {:016x}, {} events\n", result.hash, result.events);
    if (options.want_trace && result.violations.empty()) fmt::print("{}", result.trace);
  }
  if (options.plant != Plant::kNone && violating_ > 0) return false;
  return violating_ < kMostViolating && interrupted == 0;
}

int Totals::Conclude() const {
  fmt::print("faults: {}\n", faults_.Describe());
  fmt::print("{} streams, {} whole, {} datagrams, {} answered, {} bytes, at most {} bytes of buffers in one core\n",
             streams_, whole_, datagrams_, answered_, bytes_, most_memory_);
  // The processor's time: other programs may have had most of the real one.
  const double busy = static_cast<double>(std::clock()) / CLOCKS_PER_SEC;
  fmt::print(
      "{:.0f} virtual s in {:.1f} s, {:.1f} s of the processor's, {:.0f} runs in one of them, {} compared twice\n",
      static_cast<double>(virtual_ms_) / 1000, Elapsed(), busy, static_cast<double>(runs_) / std::max(busy, 0.001),
      compared_);
  fmt::print("runs: {}, faults injected: {}, violations: {}\n", runs_, faults_.total(), violating_);
  if (arguments_.common.plant == Plant::kNone) return violating_ == 0 && runs_ > 0 ? 0 : 1;
  fmt::print("{}\n", violating_ > 0 ? fmt::format("the planted bug was found in seed {}", last_seed_)
                                    : "the planted bug was NOT found");
  return violating_ > 0 ? 0 : 1;
}

// A fault at every place of one seed's small scenario, until there is no such place.
bool SweepSeed(const Arguments& arguments, uint64_t seed, Totals& totals) {
  for (uint64_t place = 1;; place += arguments.every) {
    SeedOptions options = arguments.common;
    options.seed = seed;
    if (arguments.sweep == Sweep::kCalls) {
      options.fail_call = place;
    } else {
      options.channel_cut = ChannelCut{.from = arguments.sweep == Sweep::kCutsUp ? 0 : 1, .bytes = place};
    }
    if (!totals.Run(options, false)) return false;
    if (totals.last_faults() == 0 || totals.TimeIsUp()) return true;
  }
}

int RunAll(const Arguments& arguments) {
  Totals totals(arguments);
  for (uint64_t i = 0; i < arguments.count && !totals.TimeIsUp(); ++i) {
    const uint64_t seed = arguments.first + i;
    const bool go_on = arguments.sweep != Sweep::kNone
                           ? SweepSeed(arguments, seed, totals)
                           : totals.Run(OptionsOf(arguments, seed), arguments.twice != 0 && i % arguments.twice == 0);
    if (!go_on) break;
  }
  return totals.Conclude();
}

}  // namespace
}  // namespace tunnel::simulation

int main(int argc, char** argv) {
  using namespace tunnel::simulation;
  const std::optional<Arguments> arguments = ParseArguments(argc, argv);
  if (!arguments.has_value()) {
    fmt::print(stderr, "{}", kUsage);
    return 2;
  }
  signal(SIGPIPE, SIG_IGN);
  for (const int number : {SIGINT, SIGTERM}) signal(number, OnInterrupt);
  for (const int number : {SIGABRT, SIGSEGV, SIGBUS, SIGILL, SIGFPE}) signal(number, OnCrash);
  spdlog::set_level(spdlog::level::from_str(arguments->log));
  return RunAll(*arguments);
}
