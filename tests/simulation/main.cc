// Runs the tunnel, its applications and its targets in simulated worlds, one a seed, and says whether what must hold
// held. See docs/testing.md.
#include <fmt/format.h>
#include <signal.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>

#include "run_seed.h"
#include "tunnel.h"

namespace tunnel::simulation {
namespace {

constexpr std::string_view kUsage =
    "simulation [--seed N | --seeds FROM:COUNT] [--seconds S] [--faults on|off|mixed] [--twice EVERY]\n"
    "           [--plant lose|repeat|lose-end] [--trace] [--log LEVEL]\n"
    "  --seed N            one seed, in full words\n"
    "  --seeds FROM:COUNT  so many seeds, from FROM on (default 1:100)\n"
    "  --seconds S         no further seed once so much real time has passed\n"
    "  --faults            on, off, or mixed: off for every tenth seed (default)\n"
    "  --twice EVERY       runs every so-many-th seed twice and compares the histories\n"
    "  --plant BUG         plants a bug; succeeds when a seed finds it\n"
    "  --trace             prints the end of the history even if all is well (with --seed)\n"
    "  --log LEVEL         the program's own log, with LEVEL or worse (default: none)\n";

struct Arguments {
  uint64_t first = 1;
  uint64_t count = 100;
  bool single = false;
  std::optional<double> seconds;
  std::string faults = "mixed";
  uint64_t twice = 0;
  Plant plant = Plant::kNone;
  bool trace = false;
  std::string log = "off";
};

std::optional<uint64_t> Number(std::string_view text) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

bool SetSeeds(Arguments& arguments, std::string_view value) {
  const size_t colon = value.find(':');
  if (colon == std::string_view::npos) return false;
  const auto first = Number(value.substr(0, colon));
  const auto count = Number(value.substr(colon + 1));
  if (!first.has_value() || !count.has_value() || *count == 0) return false;
  arguments.first = *first;
  arguments.count = *count;
  return true;
}

bool SetPlant(Arguments& arguments, std::string_view value) {
  if (value == "lose") arguments.plant = Plant::kLoseChunk;
  if (value == "repeat") arguments.plant = Plant::kRepeatChunk;
  if (value == "lose-end") arguments.plant = Plant::kLoseEnd;
  return arguments.plant != Plant::kNone;
}

bool SetFlag(Arguments& arguments, std::string_view flag, std::string_view value) {
  const auto number = Number(value);
  if (flag == "--seed" && number.has_value()) {
    arguments.first = *number;
    arguments.count = 1;
    arguments.single = true;
  } else if (flag == "--seeds") {
    return SetSeeds(arguments, value);
  } else if (flag == "--seconds" && number.has_value()) {
    arguments.seconds = static_cast<double>(*number);
  } else if (flag == "--faults" && (value == "on" || value == "off" || value == "mixed")) {
    arguments.faults = value;
  } else if (flag == "--twice" && number.has_value()) {
    arguments.twice = *number;
  } else if (flag == "--plant") {
    return SetPlant(arguments, value);
  } else if (flag == "--log") {
    arguments.log = value;
  } else {
    return false;
  }
  return true;
}

std::optional<Arguments> Parse(int argc, char** argv) {
  Arguments arguments;
  for (int i = 1; i < argc; ++i) {
    const std::string_view flag = argv[i];
    if (flag == "--trace") {
      arguments.trace = true;
    } else if (i + 1 >= argc || !SetFlag(arguments, flag, argv[++i])) {
      return std::nullopt;
    }
  }
  return arguments;
}

std::string ReplayOf(uint64_t seed, const SeedOptions& options) {
  return fmt::format("simulation --seed {} --faults {}", seed, options.faults ? "on" : "off");
}

// An invariant broke inside the program: the history that led there is what helps.
void OnCrash(int number) {
  const std::string text = CurrentRun();
  (void)!write(STDERR_FILENO, text.data(), text.size());
  constexpr std::string_view kLast = "\nCRASHED in the seed above; replay it with --seed\n";
  (void)!write(STDERR_FILENO, kLast.data(), kLast.size());
  signal(number, SIG_DFL);
  raise(number);
}

void PrintFailure(const SeedOptions& options, const SeedResult& result, bool whole_trace) {
  fmt::print("\nseed {} VIOLATES:\n", options.seed);
  for (const std::string& violation : result.violations) fmt::print("  - {}\n", violation);
  fmt::print("its scenario:\n{}faults: {}\nthe end of its history:\n", result.scenario, result.faults.Describe());
  // The last lines; all that were kept with --trace.
  std::string_view trace = result.trace;
  constexpr size_t kMostBytes = 4000;
  if (trace.size() > kMostBytes && !whole_trace) trace = trace.substr(trace.find('\n', trace.size() - kMostBytes) + 1);
  fmt::print("{}replay: {}\n\n", trace, ReplayOf(options.seed, options));
}

int RunAll(const Arguments& arguments) {
  const auto start = std::chrono::steady_clock::now();
  const auto elapsed = [&] { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(); };
  core::SimFaultCounts faults;
  uint64_t seeds = 0;
  uint64_t violating = 0;
  uint64_t compared = 0;
  uint64_t streams = 0;
  uint64_t whole = 0;
  uint64_t bytes = 0;
  int64_t virtual_ms = 0;
  for (uint64_t i = 0; i < arguments.count; ++i) {
    if (arguments.seconds.has_value() && elapsed() > *arguments.seconds) break;
    SeedOptions options{.seed = arguments.first + i, .plant = arguments.plant, .want_trace = arguments.trace};
    options.faults = arguments.faults == "on" || (arguments.faults == "mixed" && options.seed % 10 != 0);
    // A planted bug must be found without the help of others.
    if (arguments.plant != Plant::kNone) options.faults = false;
    SeedResult result = RunSeed(options);
    if (arguments.twice != 0 && i % arguments.twice == 0) {
      ++compared;
      const SeedResult again = RunSeed(options);
      if (again.hash != result.hash || again.events != result.events) {
        result.violations.push_back(fmt::format("two histories of one seed: {:016x} of {} events, {:016x} of {}",
                                                result.hash, result.events, again.hash, again.events));
      }
    }
    ++seeds;
    faults.Add(result.faults);
    streams += result.streams;
    whole += result.streams_whole;
    bytes += result.bytes;
    virtual_ms += result.virtual_ms;
    if (!result.violations.empty()) {
      ++violating;
      PrintFailure(options, result, arguments.trace);
    }
    if (arguments.single) {
      if (result.violations.empty()) fmt::print("{}", result.scenario);
      fmt::print("hash {:016x}, {} events, {} virtual ms, {} of {} streams whole, {} bytes, at most {} bytes held\n",
                 result.hash, result.events, result.virtual_ms, result.streams_whole, result.streams, result.bytes,
                 result.most_memory);
      if (arguments.trace && result.violations.empty()) fmt::print("{}", result.trace);
    }
    if (arguments.plant != Plant::kNone && violating > 0) break;
    // Enough to see what is wrong.
    if (violating >= 20) break;
  }
  fmt::print("faults: {}\n", faults.Describe());
  fmt::print("{} streams, {} whole, {} bytes, {} compared twice, {:.0f} virtual s in {:.1f} s\n", streams, whole, bytes,
             compared, static_cast<double>(virtual_ms) / 1000, elapsed());
  fmt::print("seeds run: {}, faults injected: {}, violations: {}\n", seeds, faults.total(), violating);
  if (arguments.plant == Plant::kNone) return violating == 0 && seeds > 0 ? 0 : 1;
  fmt::print("{}\n", violating > 0 ? fmt::format("the planted bug was found in seed {}", arguments.first + seeds - 1)
                                   : "the planted bug was NOT found");
  return violating > 0 ? 0 : 1;
}

}  // namespace
}  // namespace tunnel::simulation

int main(int argc, char** argv) {
  using namespace tunnel::simulation;
  const std::optional<Arguments> arguments = Parse(argc, argv);
  if (!arguments.has_value()) {
    fmt::print(stderr, "{}", kUsage);
    return 2;
  }
  signal(SIGPIPE, SIG_IGN);
  for (const int number : {SIGABRT, SIGSEGV, SIGBUS, SIGILL, SIGFPE}) signal(number, OnCrash);
  spdlog::set_level(spdlog::level::from_str(arguments->log));
  return RunAll(*arguments);
}
