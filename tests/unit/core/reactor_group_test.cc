#include "core/reactor_group.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "core/listener.h"
#include "reactor_fixture.h"

namespace tunnel::core {
namespace {

using testing::BackendCase;

class ReactorGroupTest : public ::testing::TestWithParam<BackendCase> {
 protected:
  void SetUp() override {
    if (testing::MakeReactor(GetParam()) == nullptr) GTEST_SKIP() << "this kernel refuses io_uring";
  }
};
TUNNEL_FOR_EVERY_BACKEND(ReactorGroupTest);

// Calls functions where a service is made and ended.
class Service final : public CoreService {
 public:
  explicit Service(std::function<void()> ended = {}) : ended_(std::move(ended)) {}
  ~Service() override {
    if (ended_) ended_();
  }

 private:
  std::function<void()> ended_;
};

TEST_P(ReactorGroupTest, PassesMessagesRoundAndRound) {
  for (const unsigned threads : {1U, 2U, 4U}) {
    ReactorGroup group(GetParam().options, threads);
    constexpr int kHops = 4000;
    std::vector<int> hops(threads);  // each core's own
    std::function<void(unsigned, int)> hop = [&](unsigned at, int left) {
      ++hops[at];
      if (left == 0) {
        group.StopAll();
        return;
      }
      const unsigned next = (at + 1) % threads;
      group.Post(at, next, [&hop, next, left] { hop(next, left - 1); });
    };
    const absl::Status status = group.Run([&](Reactor& reactor) -> absl::StatusOr<std::unique_ptr<CoreService>> {
      if (reactor.index() == 0) reactor.Defer([&] { hop(0, kHops); });
      return std::make_unique<Service>();
    });
    EXPECT_TRUE(status.ok()) << status;
    int total = 0;
    for (const int count : hops) total += count;
    EXPECT_EQ(total, kHops + 1);
  }
}

TEST_P(ReactorGroupTest, LosesNothingOverTheBoxesBound) {
  constexpr int kMessages = 20 * static_cast<int>(kMailboxMessages);
  ReactorGroup group(GetParam().options, 3);
  std::vector<int> received(3, 0);  // by receiver
  bool in_order = true;
  std::atomic<int> done{0};
  const absl::Status status = group.Run([&](Reactor& reactor) -> absl::StatusOr<std::unique_ptr<CoreService>> {
    const unsigned from = reactor.index();
    const unsigned to = (from + 1) % 3;
    // All in one go, and then the sender sleeps: what did not fit must leave by itself.
    reactor.Defer([&, from, to] {
      for (int i = 0; i < kMessages; ++i) {
        group.Post(from, to, [&, to, i] {
          if (to == 1) in_order = in_order && received[to] == i;
          if (++received[to] == kMessages && ++done == 3) group.StopAll();
        });
      }
    });
    return std::make_unique<Service>();
  });
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(received, std::vector<int>(3, kMessages));
  EXPECT_TRUE(in_order);
}

TEST_P(ReactorGroupTest, WhatDidNotFitLeavesThoughNothingWakesTheSender) {
  constexpr int kMessages = 3 * static_cast<int>(kMailboxMessages) + 1;
  ReactorGroup group(GetParam().options, 2);
  int received = 0;  // core 1's own
  const absl::Status status = group.Run([&](Reactor& reactor) -> absl::StatusOr<std::unique_ptr<CoreService>> {
    if (reactor.index() == 0) {
      reactor.Defer([&] {
        for (int i = 0; i < kMessages; ++i) {
          group.Post(0, 1, [&] {
            if (++received == kMessages) group.StopAll();
          });
        }
      });
    }
    return std::make_unique<Service>();
  });
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(received, kMessages);
}

TEST_P(ReactorGroupTest, ACoreThatPostsToItselfStillTurns) {
  ReactorGroup group(GetParam().options, 1);
  std::function<void()> again = [&] { group.Post(0, 0, [&again] { again(); }); };
  std::optional<Timer> timer;
  const absl::Status status = group.Run([&](Reactor& reactor) -> absl::StatusOr<std::unique_ptr<CoreService>> {
    timer.emplace(reactor.timers(), [&] { group.StopAll(); });
    timer->SetAfter(std::chrono::milliseconds(5));
    again();
    return std::make_unique<Service>([&] { timer.reset(); });
  });
  EXPECT_TRUE(status.ok()) << status;
}

TEST_P(ReactorGroupTest, ServicesMayPostWhileTheyAreMade) {
  ReactorGroup group(GetParam().options, 3);
  std::atomic<int> received{0};
  const absl::Status status = group.Run([&](Reactor& reactor) -> absl::StatusOr<std::unique_ptr<CoreService>> {
    for (unsigned to = 0; to < 3; ++to) {
      group.Post(reactor.index(), to, [&] {
        if (++received == 9) group.StopAll();
      });
    }
    return std::make_unique<Service>();
  });
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(received.load(), 9);
}

TEST_P(ReactorGroupTest, MakesAndEndsEachServiceOnItsThread) {
  constexpr unsigned kThreads = 3;
  ReactorGroup group(GetParam().options, kThreads);
  std::vector<std::thread::id> made;
  std::vector<std::thread::id> ended(kThreads);
  const absl::Status status = group.Run([&](Reactor& reactor) -> absl::StatusOr<std::unique_ptr<CoreService>> {
    EXPECT_EQ(reactor.index(), made.size());
    made.push_back(std::this_thread::get_id());
    if (reactor.index() == kThreads - 1) group.Post(kThreads - 1, 0, [&] { group.StopAll(); });
    return std::make_unique<Service>([&, index = reactor.index()] { ended[index] = std::this_thread::get_id(); });
  });
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(made, ended);
  EXPECT_EQ(made[0], std::this_thread::get_id());
  EXPECT_TRUE(group.counters().empty()) << "the cores are gone";
}

TEST_P(ReactorGroupTest, AServiceThatCannotBeMadeEndsAll) {
  for (unsigned failing = 0; failing < 3; ++failing) {
    ReactorGroup group(GetParam().options, 3);
    int made = 0;
    std::atomic<int> ended{0};
    const absl::Status status = group.Run([&](Reactor& reactor) -> absl::StatusOr<std::unique_ptr<CoreService>> {
      if (reactor.index() == failing) return absl::UnavailableError("no port");
      ++made;
      group.Post(reactor.index(), 0, [] { ADD_FAILURE() << "nothing runs"; });
      auto listener = Listener::Open(reactor, SocketAddress::V4({127, 0, 0, 1}, 0), false,
                                     [](StreamSocket, const SocketAddress&) {});
      EXPECT_TRUE(listener.ok());
      return std::make_unique<Service>([&, kept = std::make_shared<Listener>(*std::move(listener))] { ++ended; });
    });
    EXPECT_EQ(MessageOf(status), "no port");
    EXPECT_EQ(made, static_cast<int>(failing)) << "later ones are not begun";
    EXPECT_EQ(ended.load(), made);
  }
}

TEST_P(ReactorGroupTest, StopsFromAnyThreadAtAnyTime) {
  for (int round = 0; round < 20; ++round) {
    ReactorGroup group(GetParam().options, 2);
    std::thread stopper([&] {
      for (int i = 0; i < round * 20; ++i) std::this_thread::yield();
      group.StopAll();
    });
    const absl::Status status = group.Run(
        [&](Reactor&) -> absl::StatusOr<std::unique_ptr<CoreService>> { return std::make_unique<Service>(); });
    EXPECT_TRUE(status.ok()) << status;
    stopper.join();
  }
}

TEST_P(ReactorGroupTest, StopsFromInsideTheMakingOfAService) {
  ReactorGroup group(GetParam().options, 3);
  const absl::Status status = group.Run([&](Reactor& reactor) -> absl::StatusOr<std::unique_ptr<CoreService>> {
    if (reactor.index() == 0) group.StopAll();
    return std::make_unique<Service>();
  });
  EXPECT_TRUE(status.ok()) << status;
}

TEST_P(ReactorGroupTest, CountersCanBeReadFromOutside) {
  ReactorGroup group(GetParam().options, 2);
  std::atomic<bool> running{false};
  std::thread observer([&] {
    while (!running.load()) std::this_thread::yield();
    int64_t turns = 0;
    for (int i = 0; i < 100; ++i) {
      for (const Counters* counters : group.counters()) turns += counters->turns.Get();
    }
    EXPECT_GE(turns, 0);
    group.StopAll();
  });
  const absl::Status status = group.Run([&](Reactor& reactor) -> absl::StatusOr<std::unique_ptr<CoreService>> {
    if (reactor.index() == 1) running.store(true);
    return std::make_unique<Service>();
  });
  observer.join();
  EXPECT_TRUE(status.ok()) << status;
}

TEST_P(ReactorGroupTest, CoresDoNotTurnWhileNothingHappens) {
  std::vector<int64_t> turns(2, 1000);
  // More than one try: the rings of earlier tests interrupt waits while the kernel takes them down.
  for (int attempt = 0; attempt < 5 && (turns[0] > 10 || turns[1] > 10); ++attempt) {
    ReactorGroup group(GetParam().options, 2);
    std::optional<Timer> timer;
    const absl::Status status = group.Run([&](Reactor& reactor) -> absl::StatusOr<std::unique_ptr<CoreService>> {
      if (reactor.index() == 0) {
        timer.emplace(reactor.timers(), [&] { group.StopAll(); });
        timer->SetAfter(std::chrono::milliseconds(100));
      }
      return std::make_unique<Service>([&turns, &timer, core = &reactor] {
        turns[core->index()] = core->counters().turns.Get();
        if (core->index() == 0) timer.reset();
      });
    });
    EXPECT_TRUE(status.ok()) << status;
  }
  EXPECT_LE(turns[0], 10);
  EXPECT_LE(turns[1], 10);
}

TEST(UsableCores, IsAtLeastOne) { EXPECT_GE(UsableCores(), 1U); }

}  // namespace
}  // namespace tunnel::core
