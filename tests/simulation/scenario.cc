#include "scenario.h"

#include <fmt/format.h>

#include <algorithm>

namespace tunnel::simulation {
namespace {

using core::Duration;
using std::chrono::milliseconds;

// Of every order of magnitude between them.
uint64_t LogBetween(core::SimRandom& random, uint64_t low, uint64_t high) {
  uint64_t limit = low;
  while (limit < high && random.Below(4) != 0) limit *= 2;
  return std::min(high, random.Between(low, std::max(low, limit)));
}

// Two or three short streams of one channel, one core each, no distance to speak of.
void MakeSmall(core::SimRandom& random, Scenario& scenario) {
  scenario.world.stream_buffer_bytes = std::max<size_t>(scenario.world.stream_buffer_bytes, 64 * 1024);
  scenario.far = {.latency = milliseconds(1)};
  scenario.near = {.latency = milliseconds(1)};
  scenario.tunnel.client_cores = 1;
  scenario.tunnel.server_cores = 1;
  scenario.tunnel.channels = 1;
  scenario.streams = static_cast<uint32_t>(random.Between(2, 3));
  scenario.total_bytes = 4000;
  scenario.window = milliseconds(200);
  scenario.associations = 1;
}

}  // namespace

Scenario DrawScenario(core::SimRandom& random, const SeedOptions& options) {
  Scenario scenario;
  scenario.world.seed = random.Next();
  if (options.want_trace) scenario.world.trace_lines = size_t{1} << 20;
  scenario.world.stream_buffer_bytes = LogBetween(random, 8 * 1024, size_t{2560} * 1024);
  scenario.world.receive_buffers = 4U << random.Below(4);
  scenario.world.receive_buffer_bytes = size_t{2048} << random.Below(6);
  scenario.world.turn_cost = std::chrono::microseconds(random.Between(1, 50));
  if (random.Below(8) != 0) {
    scenario.world.chaos = {.short_receive = static_cast<uint32_t>(random.Below(400'000)),
                            .short_send = static_cast<uint32_t>(random.Below(400'000)),
                            .split_arrival = static_cast<uint32_t>(random.Below(400'000)),
                            .late_completion = static_cast<uint32_t>(random.Below(100'000)),
                            .late_cancel = static_cast<uint32_t>(random.Below(1'000'000)),
                            .reorder = true};
  }
  scenario.far.latency = std::chrono::microseconds(LogBetween(random, 50, 150'000));
  scenario.far.jitter = scenario.far.latency * static_cast<int64_t>(random.Below(4)) / 10;
  scenario.far.bytes_per_second = random.Below(3) == 0 ? LogBetween(random, 200'000, 20'000'000) : 0;
  scenario.near.latency = std::chrono::microseconds(LogBetween(random, 1, 20'000));
  scenario.tunnel.client_cores = random.Below(4) == 0 ? 2 : 1;
  scenario.tunnel.server_cores = random.Below(4) == 0 ? 2 : 1;
  scenario.tunnel.channels = static_cast<unsigned>(random.Between(1, 4));
  scenario.tunnel.protocol = options.protocol;
  scenario.streams = static_cast<uint32_t>(LogBetween(random, 2, 40));
  scenario.window = milliseconds(LogBetween(random, 200, 20'000));
  // What the slower of bandwidth and window lets through in a few seconds, and what a test has time for.
  const double round_trip = std::chrono::duration<double>(2 * scenario.far.latency + scenario.far.jitter).count();
  double rate = static_cast<double>(scenario.world.stream_buffer_bytes) / std::max(round_trip, 0.001);
  if (scenario.far.bytes_per_second != 0) rate = std::min(rate, static_cast<double>(scenario.far.bytes_per_second));
  const uint64_t most = random.Below(40) == 0 ? 12'000'000 : 1'500'000;
  scenario.total_bytes = std::min(most, static_cast<uint64_t>(rate * 4));
  scenario.fault_every = milliseconds(LogBetween(random, 10, 1000));
  scenario.call_fails = static_cast<uint32_t>(random.Below(3) == 0 ? 0 : LogBetween(random, 100, 50'000));
  scenario.fault_every =
      std::max(Duration(std::chrono::microseconds(100)),
               Duration(static_cast<int64_t>(static_cast<double>(scenario.fault_every.count()) / options.fault_rate)));
  scenario.call_fails =
      static_cast<uint32_t>(std::min(500'000.0, static_cast<double>(scenario.call_fails) * options.fault_rate));
  scenario.associations = random.Below(3) == 0 ? static_cast<uint32_t>(random.Between(1, 4)) : 0;
  if (options.faults.test(static_cast<size_t>(core::SimFault::kLostDatagram)) && random.Below(2) == 0) {
    scenario.near.jitter = scenario.near.latency;
    scenario.near.datagram_loss = static_cast<uint32_t>(random.Below(200'000));
    scenario.near.datagram_copies = static_cast<uint32_t>(random.Below(100'000));
  }
  if (options.small) MakeSmall(random, scenario);
  if (options.protocol == net::Protocol::kAuto) scenario.tunnel.server_cores = 2;
  scenario.tunnel.associations = scenario.associations + 1;
  return scenario;
}

std::string Describe(const Scenario& scenario, bool faults) {
  std::string text = fmt::format(
      "{}+{} cores, {} channels, {} streams, about {} bytes within {} ms\n"
      "link {} us +{} us, {} B/s; to targets {} us; socket buffers {}, {} receive buffers of {}\n",
      scenario.tunnel.client_cores, scenario.tunnel.server_cores, scenario.tunnel.channels, scenario.streams,
      scenario.total_bytes, core::ToMilliseconds(scenario.window), scenario.far.latency.count() / 1000,
      scenario.far.jitter.count() / 1000, scenario.far.bytes_per_second, scenario.near.latency.count() / 1000,
      scenario.world.stream_buffer_bytes, scenario.world.receive_buffers, scenario.world.receive_buffer_bytes);
  if (faults) {
    text += fmt::format("a fault every {} ms, {} of a million calls fail\n", core::ToMilliseconds(scenario.fault_every),
                        scenario.call_fails);
  }
  return text;
}

}  // namespace tunnel::simulation
