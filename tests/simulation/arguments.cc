#include "arguments.h"

#include <fmt/format.h>

#include <charconv>

namespace tunnel::simulation {
namespace {

template <typename T>
bool SetNumber(std::string_view text, T& number) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return false;
  number = value;
  return true;
}

bool SetSeeds(Arguments& arguments, std::string_view value) {
  const size_t dots = value.find("..");
  if (dots == std::string_view::npos) return SetNumber(value, arguments.count) && arguments.count > 0;
  uint64_t last = 0;
  if (!SetNumber(value.substr(0, dots), arguments.first) || !SetNumber(value.substr(dots + 2), last)) return false;
  arguments.count = last - arguments.first + 1;
  return last >= arguments.first;
}

bool SetFaults(Arguments& arguments, std::string_view value) {
  arguments.mixed = value == "mixed";
  if (value == "mixed" || value == "on") return true;
  const auto kinds = value == "off" ? core::SimFaultSet() : core::ParseSimFaults(value);
  if (!kinds.has_value()) return false;
  arguments.common.faults = *kinds;
  return true;
}

struct PlantName {
  Plant plant;
  std::string_view name;
};
constexpr PlantName kPlantNames[] = {{Plant::kLoseChunk, "lose"},
                                     {Plant::kRepeatChunk, "repeat"},
                                     {Plant::kLoseEnd, "lose-end"},
                                     {Plant::kDropRetained, "drop-retained"},
                                     {Plant::kSkipCredit, "skip-credit"}};

bool SetPlant(Arguments& arguments, std::string_view value) {
  for (const auto& [plant, name] : kPlantNames) {
    if (name == value) arguments.common.plant = plant;
  }
  return arguments.common.plant != Plant::kNone;
}

bool SetSweep(Arguments& arguments, std::string_view value) {
  if (value == "calls") arguments.sweep = Sweep::kCalls;
  if (value == "up") arguments.sweep = Sweep::kCutsUp;
  if (value == "down") arguments.sweep = Sweep::kCutsDown;
  arguments.common.small = true;
  return arguments.sweep != Sweep::kNone;
}

bool SetCut(Arguments& arguments, int from, std::string_view value) {
  ChannelCut cut{.from = from};
  if (!SetNumber(value, cut.bytes)) return false;
  arguments.common.channel_cut = cut;
  arguments.common.small = true;
  return true;
}

bool SetProtocol(Arguments& arguments, std::string_view value) {
  arguments.common.protocol = value == "native"   ? net::Protocol::kNative
                              : value == "legacy" ? net::Protocol::kLegacy
                                                  : net::Protocol::kAuto;
  return value == "native" || value == "legacy" || value == "pool";
}

bool SetFlag(Arguments& arguments, std::string_view flag, std::string_view value) {
  SeedOptions& common = arguments.common;
  if (flag == "--seed") {
    arguments.count = 1;
    arguments.single = true;
    return SetNumber(value, arguments.first);
  }
  if (flag == "--seeds") return SetSeeds(arguments, value);
  if (flag == "--seconds") return SetNumber(value, arguments.seconds.emplace());
  if (flag == "--faults") return SetFaults(arguments, value);
  if (flag == "--rate") return SetNumber(value, common.fault_rate) && common.fault_rate > 0;
  if (flag == "--protocol") return SetProtocol(arguments, value);
  if (flag == "--twice") return SetNumber(value, arguments.twice);
  if (flag == "--plant") return SetPlant(arguments, value);
  if (flag == "--sweep") return SetSweep(arguments, value);
  if (flag == "--every") return SetNumber(value, arguments.every) && arguments.every > 0;
  if (flag == "--fail-call") {
    common.small = true;
    return SetNumber(value, common.fail_call) && common.fail_call > 0;
  }
  if (flag == "--cut-up") return SetCut(arguments, 0, value);
  if (flag == "--cut-down") return SetCut(arguments, 1, value);
  if (flag == "--log") {
    arguments.log = value;
    return true;
  }
  return false;
}

std::string ListOf(const core::SimFaultSet& faults) {
  if (faults.none()) return "off";
  if (faults.all()) return "on";
  std::string text;
  for (size_t i = 0; i < core::kSimFaults; ++i) {
    if (!faults.test(i)) continue;
    text += fmt::format("{}{}", text.empty() ? "" : ",", core::ToString(static_cast<core::SimFault>(i)));
  }
  return text;
}

std::string_view NameOf(Plant plant) {
  for (const auto& [other, name] : kPlantNames) {
    if (other == plant) return name;
  }
  return "none";
}

}  // namespace

const std::string_view kUsage =
    "simulation [--seed N | --seeds FIRST..LAST | --seeds COUNT] [--seconds S] [--protocol legacy|native|pool]\n"
    "           [--faults mixed|on|off|KINDS] [--rate FACTOR] [--twice EVERY] [--trace] [--log LEVEL]\n"
    "           [--sweep calls|up|down [--every K]] [--plant BUG]\n"
    "  --seed N         one seed, with its scenario and the hash of its history\n"
    "  --seeds          from FIRST to LAST, or that many from 1 on (default 100)\n"
    "  --seconds S      no further seed once so much real time has passed\n"
    "  --protocol pool  one server knows mux/2, the other behind the same address only the legacy protocol\n"
    "  --faults         mixed: all kinds, and none in every tenth seed (default); KINDS: cut,stall,...; 'calls' is\n"
    "                   every call that may fail; the totals at the end name them all\n"
    "  --rate FACTOR    so many times as many faults as the seed says\n"
    "  --twice EVERY    runs every so-many-th seed twice and compares the histories\n"
    "  --trace          prints the end of the history even if all is well (with --seed)\n"
    "  --log LEVEL      the program's own log, with LEVEL or worse (default: off)\n"
    "  --sweep          a small scenario of each seed again and again, with one fault at every place of it in turn, "
    "or\n"
    "                   at every K-th: each call fails, or the channel is cut at each byte of the client or the "
    "server\n"
    "  --fail-call N, --cut-up N, --cut-down N   one run of a sweep (with --seed)\n"
    "  --plant BUG      plants a bug, and succeeds when a seed finds it: lose, repeat, lose-end; and with mux/2\n"
    "                   drop-retained (under cuts, or it would have no place), skip-credit\n";

std::optional<Arguments> ParseArguments(int argc, char** argv) {
  Arguments arguments;
  for (int i = 1; i < argc; ++i) {
    const std::string_view flag = argv[i];
    if (flag == "--trace") {
      arguments.common.want_trace = true;
    } else if (i + 1 >= argc || !SetFlag(arguments, flag, argv[++i])) {
      return std::nullopt;
    }
  }
  return arguments;
}

SeedOptions OptionsOf(const Arguments& arguments, uint64_t seed) {
  SeedOptions options = arguments.common;
  options.seed = seed;
  if (arguments.mixed && seed % 10 == 0) options.faults.reset();
  if (options.plant != Plant::kNone) {
    // A planted bug must be found without the help of others, but for those that lead to it.
    options.faults.reset();
    if (options.plant == Plant::kDropRetained) {
      options.faults.set(static_cast<size_t>(core::SimFault::kCut));
      options.faults.set(static_cast<size_t>(core::SimFault::kCutAtByte));
      options.fault_rate = 8;  // few cuts find something to be sent again
    }
  }
  return options;
}

std::string ReplayOf(const SeedOptions& options) {
  std::string command = fmt::format("simulation --seed {}", options.seed);
  if (options.protocol == net::Protocol::kNative) command += " --protocol native";
  if (options.protocol == net::Protocol::kAuto) command += " --protocol pool";
  if (options.fail_call != 0) return fmt::format("{} --fail-call {}", command, options.fail_call);
  if (const auto& cut = options.channel_cut; cut.has_value()) {
    return fmt::format("{} --cut-{} {}", command, cut->from == 0 ? "up" : "down", cut->bytes);
  }
  if (options.plant != Plant::kNone) return fmt::format("{} --plant {}", command, NameOf(options.plant));
  command += fmt::format(" --faults {}", ListOf(options.faults));
  if (options.fault_rate != 1) command += fmt::format(" --rate {}", options.fault_rate);
  return command;
}

}  // namespace tunnel::simulation
