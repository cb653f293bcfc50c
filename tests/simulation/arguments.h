// The simulation program's command line.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "run_seed.h"

namespace tunnel::simulation {

// What is tried one after another at every place of a seed's history.
enum class Sweep : uint8_t {
  kNone,
  kCalls,     // every call fails once
  kCutsUp,    // the channel is cut at every byte that the client sends
  kCutsDown,  // or the server
};

struct Arguments {
  uint64_t first = 1;
  uint64_t count = 100;
  bool single = false;
  std::optional<double> seconds;
  bool mixed = true;   // no fault in every tenth seed
  SeedOptions common;  // of every seed
  uint64_t twice = 0;
  Sweep sweep = Sweep::kNone;
  uint64_t every = 1;  // of the places of a sweep
  std::string log = "off";
};

extern const std::string_view kUsage;

// nullopt: it is wrong.
[[nodiscard]] std::optional<Arguments> ParseArguments(int argc, char** argv);
// The options of one seed.
[[nodiscard]] SeedOptions OptionsOf(const Arguments& arguments, uint64_t seed);
// The command that does the same again.
[[nodiscard]] std::string ReplayOf(const SeedOptions& options);

}  // namespace tunnel::simulation
