// One seed, from its scenario to its verdict.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/sim_faults.h"
#include "net/config.h"
#include "saboteur.h"

namespace tunnel::simulation {

struct SeedOptions {
  uint64_t seed = 1;
  // None: no fault at all.
  core::SimFaultSet faults = core::SimFaultSet().set();
  // So many times as often as the seed says.
  double fault_rate = 1;
  // One fault at a chosen place instead of those, in a scenario small enough to try every place.
  bool small = false;
  uint64_t fail_call = 0;
  std::optional<ChannelCut> channel_cut;
  Plant plant = Plant::kNone;
  net::Protocol protocol = net::Protocol::kLegacy;
  bool want_trace = false;  // though all is well
};

struct SeedResult {
  // What was drawn, in a few lines.
  std::string scenario;
  // What must not be; empty when all is well.
  std::vector<std::string> violations;
  core::SimFaultCounts faults;
  // Of everything that happened: equal for two runs of one seed.
  uint64_t hash = 0;
  uint64_t events = 0;
  int64_t virtual_ms = 0;
  uint32_t streams = 0;
  uint32_t streams_whole = 0;  // every byte both ways
  uint64_t bytes = 0;
  uint64_t datagrams = 0;
  uint64_t datagrams_answered = 0;
  size_t most_memory = 0;  // of one core's pool
  // The last of the history.
  std::string trace;
};

[[nodiscard]] SeedResult RunSeed(const SeedOptions& options);

// The text of the run that is going on, if one is: for a crash.
[[nodiscard]] std::string CurrentRun();

}  // namespace tunnel::simulation
