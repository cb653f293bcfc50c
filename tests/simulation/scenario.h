// What one seed is about: drawn before anything runs.
#pragma once

#include <cstdint>
#include <string>

#include "core/sim_world.h"
#include "run_seed.h"
#include "tunnel.h"

namespace tunnel::simulation {

struct Scenario {
  core::SimOptions world;
  TunnelPlan tunnel;
  core::SimLink far;   // client to server
  core::SimLink near;  // server to targets
  uint32_t streams = 0;
  uint32_t associations = 0;
  uint64_t total_bytes = 0;
  core::Duration window{};
  core::Duration fault_every{};
  uint32_t call_fails = 0;
};

[[nodiscard]] Scenario DrawScenario(core::SimRandom& random, const SeedOptions& options);
// In a few lines; `faults`: those that are drawn, too.
[[nodiscard]] std::string Describe(const Scenario& scenario, bool faults);

}  // namespace tunnel::simulation
