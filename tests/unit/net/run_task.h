// Runs coroutines to their end on a reactor of the test's own.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "core/reactor.h"
#include "core/task.h"

namespace tunnel::net {

inline std::unique_ptr<core::Reactor> MakeTestReactor() {
  std::string note;
  auto reactor = core::Reactor::Create({.backend = core::BackendChoice::kEpoll}, 0, note);
  EXPECT_TRUE(reactor.ok()) << reactor.status();
  return *std::move(reactor);
}

// Turns until `done`; false when that takes longer than a test may.
inline bool TurnUntil(core::Reactor& reactor, const std::function<bool()>& done) {
  constexpr auto kLimit = std::chrono::seconds(20);
  const auto start = std::chrono::steady_clock::now();
  while (!done()) {
    if (std::chrono::steady_clock::now() - start > kLimit) return false;
    reactor.Turn(reactor.backend().Now());
    if (!done()) reactor.Turn(reactor.backend().Now() + std::chrono::milliseconds(1));
  }
  return true;
}

template <typename T>
core::Task<void> StoreResult(core::Task<T> task, std::optional<T>* result) {
  T value = co_await std::move(task);
  result->emplace(std::move(value));
}

template <typename T>
T RunTask(core::Reactor& reactor, core::Task<T> task) {
  std::optional<T> result;
  core::Scope scope(reactor);
  scope.Spawn(StoreResult<T>(std::move(task), &result));
  if (!TurnUntil(reactor, [&] { return scope.empty(); })) {
    ADD_FAILURE() << "the task did not end";
    scope.Cancel();
    (void)TurnUntil(reactor, [&] { return scope.empty(); });
  }
  return *std::move(result);
}

}  // namespace tunnel::net
