// Attempts at one thing that start one after another, each a while after the one before or at once when one failed; the
// first success wins. What RFC 8305 section 5 does with connections, and the DoH client with resolvers.
#pragma once

#include <absl/functional/any_invocable.h>

#include <optional>
#include <utility>
#include <vector>

#include "core/reactor.h"
#include "core/task.h"

namespace tunnel::net {

struct RaceLimits {
  core::Duration delay;  // between two starts while none fails
  core::Duration limit;  // for all of it
};

template <typename Result>
struct RaceOutcome {
  std::optional<Result> winner;
  // Set when the waiting task was interrupted before there was a winner.
  absl::Status interruption;
  // Why each attempt failed, by its number; Ok for those that had not ended, or not started, when the race was over.
  std::vector<absl::Status> failures;
  // Attempts that were started: the first ones.
  size_t started = 0;
};

namespace internal {

template <typename Result>
struct Race {
  explicit Race(core::Reactor& reactor) : scope(reactor) {}
  core::Scope scope;
  core::Event changed;
  std::optional<Result> winner;
  std::vector<absl::Status> failures;
  size_t failed = 0;
  bool over = false;  // what fails now was cancelled by us
};

template <typename Result>
core::Task<void> RunAttempt(Race<Result>* race, size_t number, core::Task<absl::StatusOr<Result>> attempt) {
  absl::StatusOr<Result> result = co_await std::move(attempt);
  if (result.ok()) {
    // A second winner is dropped, and with it what it holds.
    if (!race->winner.has_value()) race->winner.emplace(*std::move(result));
  } else if (!race->over) {
    race->failures[number] = result.status();
    ++race->failed;
  }
  race->changed.Set();
}

}  // namespace internal

// Runs attempts 0 to `count` - 1, which `start` makes. Returns when one succeeded, all failed, the limit passed, or the
// task was interrupted; the others have then been cancelled and have ended. What `start` refers to must outlive the
// call.
template <typename Result>
core::Task<RaceOutcome<Result>> StaggeredRace(
    absl::AnyInvocable<core::Task<absl::StatusOr<Result>>(size_t number)> start, size_t count, RaceLimits limits) {
  core::TaskContext& context = co_await core::CurrentTask();
  core::Reactor& reactor = context.reactor();
  RaceOutcome<Result> outcome;
  internal::Race<Result> race(reactor);
  race.failures.resize(count);
  size_t delays = 0;
  bool expired = false;
  core::Timer stagger(reactor.timers(), [&race, &delays] {
    ++delays;
    race.changed.Set();
  });
  core::Timer limit(reactor.timers(), [&race, &expired] {
    expired = true;
    race.changed.Set();
  });
  limit.SetAfter(limits.limit);

  while (!race.winner.has_value() && !expired && race.failed < count) {
    if (outcome.started < count && outcome.started <= race.failed + delays) {
      const size_t number = outcome.started++;
      stagger.SetAfter(limits.delay);
      race.scope.Spawn(internal::RunAttempt<Result>(&race, number, start(number)));
      continue;
    }
    race.changed.Reset();
    outcome.interruption = co_await race.changed.Wait();
    if (!outcome.interruption.ok()) break;
  }
  race.over = true;
  race.scope.Cancel();
  co_await race.scope.Join();
  outcome.winner = std::move(race.winner);
  if (outcome.winner.has_value()) outcome.interruption = absl::OkStatus();
  outcome.failures = std::move(race.failures);
  co_return std::move(outcome);
}

}  // namespace tunnel::net
