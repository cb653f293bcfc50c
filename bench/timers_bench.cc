// The timer wheel beside a multimap ordered by time, in the use it has here: thousands of timers that are nearly always
// moved or cancelled before they expire. The label says how many are armed at the end.
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <cstdint>
#include <deque>
#include <map>
#include <random>
#include <vector>

#include "core/timers.h"

namespace {

using namespace tunnel::core;
using std::chrono::milliseconds;

// Delays as the program sets them: from retries of milliseconds to idle limits of minutes.
std::vector<milliseconds> Delays(size_t count) {
  std::mt19937_64 random(7);
  std::vector<milliseconds> delays(count);
  for (milliseconds& delay : delays) delay = milliseconds(1 + (random() & ((uint64_t{1} << (random() % 18)) - 1)));
  return delays;
}

// One timer of many is moved, as on every message of one of many channels.
void WheelMove(benchmark::State& state) {
  const auto count = static_cast<size_t>(state.range(0));
  const std::vector<milliseconds> delays = Delays(4096);
  TimerWheel wheel{TimePoint()};
  std::deque<Timer> timers;
  for (size_t i = 0; i < count; ++i) timers.emplace_back(wheel, [] {}).SetAfter(delays[i % delays.size()]);
  size_t at = 0;
  for (auto _ : state) {
    timers[at * 7919 % timers.size()].SetAfter(delays[at % delays.size()]);
    ++at;
  }
  state.SetLabel(fmt::format("{} armed", wheel.armed()));
}
BENCHMARK(WheelMove)->Arg(100)->Arg(10'000);

void MultimapMove(benchmark::State& state) {
  const auto count = static_cast<size_t>(state.range(0));
  const std::vector<milliseconds> delays = Delays(4096);
  std::multimap<milliseconds, size_t> wheel;
  std::vector<std::multimap<milliseconds, size_t>::iterator> timers;
  timers.reserve(count);
  for (size_t i = 0; i < count; ++i) timers.push_back(wheel.emplace(delays[i % delays.size()], i));
  size_t at = 0;
  for (auto _ : state) {
    auto& timer = timers[at * 7919 % timers.size()];
    wheel.erase(timer);
    timer = wheel.emplace(delays[at % delays.size()], at);
    ++at;
  }
  state.SetLabel(fmt::format("{} armed", wheel.size()));
}
BENCHMARK(MultimapMove)->Arg(100)->Arg(10'000);

// A turn of the reactor with timers armed, none of them due.
void WheelIdleTurn(benchmark::State& state) {
  TimerWheel wheel{TimePoint()};
  std::deque<Timer> timers;
  for (const milliseconds delay : Delays(1000))
    timers.emplace_back(wheel, [] {}).SetAfter(delay + std::chrono::hours(1));
  Duration now{};
  for (auto _ : state) {
    now += std::chrono::nanoseconds(100);
    wheel.Advance(TimePoint(now));
    benchmark::DoNotOptimize(wheel.NextDeadline());
  }
  state.SetLabel(fmt::format("{} armed", wheel.armed()));
}
BENCHMARK(WheelIdleTurn);

// Every timer expires and is set again, a millisecond at a time.
void WheelExpire(benchmark::State& state) {
  const std::vector<milliseconds> delays = Delays(1000);
  TimerWheel wheel{TimePoint()};
  uint64_t expired = 0;
  std::deque<Timer> timers;
  for (size_t i = 0; i < delays.size(); ++i) {
    timers.emplace_back(wheel, [&, i] {
      ++expired;
      timers[i].SetAfter(delays[i]);
    });
    timers[i].SetAfter(delays[i]);
  }
  Duration now{};
  for (auto _ : state) {
    now += milliseconds(1);
    wheel.Advance(TimePoint(now));
  }
  state.SetItemsProcessed(static_cast<int64_t>(expired));
  state.SetLabel(fmt::format("{} armed", wheel.armed()));
}
BENCHMARK(WheelExpire);

}  // namespace

BENCHMARK_MAIN();
