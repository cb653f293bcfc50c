#include "core/descriptor_watch.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <csignal>
#include <list>

#include "core/check.h"
#include "core/process.h"
#include "reactor_fixture.h"

namespace tunnel::core {
namespace {

using testing::RawPeer;
using testing::ReactorTest;
using testing::Recorder;

// A pipe whose ends close with it.
class Pipe {
 public:
  Pipe() { TUNNEL_CHECK(pipe2(ends_.data(), O_NONBLOCK | O_CLOEXEC) == 0); }
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;
  ~Pipe() {
    CloseReader();
    CloseWriter();
  }
  [[nodiscard]] int reader() const { return ends_[0]; }
  [[nodiscard]] int writer() const { return ends_[1]; }
  void Write(std::string_view text) const {
    TUNNEL_CHECK(write(writer(), text.data(), text.size()) == static_cast<ssize_t>(text.size()));
  }
  [[nodiscard]] bool ReadOne() const {
    char byte = 0;
    return read(reader(), &byte, 1) == 1;
  }
  void CloseReader() {
    if (ends_[0] >= 0) close(std::exchange(ends_[0], -1));
  }
  void CloseWriter() {
    if (ends_[1] >= 0) close(std::exchange(ends_[1], -1));
  }

 private:
  std::array<int, 2> ends_{-1, -1};
};

class DescriptorWatchTest : public ReactorTest {};
TUNNEL_FOR_EVERY_BACKEND(DescriptorWatchTest);

TEST_P(DescriptorWatchTest, CallsAgainWhileThereIsSomething) {
  const Pipe pipe;
  int calls = 0;
  std::string read_bytes;
  DescriptorWatch watch(reactor(), pipe.reader(), [&](uint32_t events) {
    EXPECT_EQ(events, static_cast<uint32_t>(EPOLLIN));
    ++calls;
    EXPECT_TRUE(pipe.ReadOne());  // one of many: the level stays
  });
  watch.Watch(EPOLLIN);
  Settle();
  EXPECT_EQ(calls, 0);
  pipe.Write("12345");
  ASSERT_TRUE(RunUntil([&] { return calls == 5; }));
  EXPECT_LE(TurnsWithin(std::chrono::milliseconds(50), 3), 3) << "nothing is left";
  EXPECT_EQ(calls, 5);
  pipe.Write("6");
  ASSERT_TRUE(RunUntil([&] { return calls == 6; }));
}

TEST_P(DescriptorWatchTest, FollowsWhatIsWanted) {
  const Pipe pipe;
  int writable = 0;
  DescriptorWatch watch(reactor(), pipe.writer(), [&](uint32_t events) {
    EXPECT_EQ(events, static_cast<uint32_t>(EPOLLOUT));
    ++writable;
  });
  watch.Watch(EPOLLIN);
  Settle();
  EXPECT_EQ(writable, 0);
  watch.Watch(EPOLLIN | EPOLLOUT);
  ASSERT_TRUE(RunUntil([&] { return writable >= 3; }));
  watch.Watch(EPOLLIN);
  watch.Watch(EPOLLOUT);
  watch.Watch(EPOLLIN);
  const int so_far = writable;
  Settle();
  EXPECT_EQ(writable, so_far);
  watch.Watch(0);
  EXPECT_LE(TurnsWithin(std::chrono::milliseconds(20), 4), 4);
  EXPECT_EQ(writable, so_far);
  watch.Watch(EPOLLOUT);
  ASSERT_TRUE(RunUntil([&] { return writable > so_far; }));
}

TEST_P(DescriptorWatchTest, StopsAndGoesFromInsideItsCallback) {
  const Pipe pipe;
  pipe.Write("x");
  int calls = 0;
  std::optional<DescriptorWatch> watch;
  watch.emplace(reactor(), pipe.reader(), [&](uint32_t) {
    ++calls;
    watch->Watch(0);
  });
  watch->Watch(EPOLLIN);
  ASSERT_TRUE(RunUntil([&] { return calls == 1; }));
  Settle();
  EXPECT_EQ(calls, 1);
  watch.emplace(reactor(), pipe.reader(), [&](uint32_t) {
    ++calls;
    watch.reset();
  });
  watch->Watch(EPOLLIN);
  ASSERT_TRUE(RunUntil([&] { return calls == 2; }));
  Settle();
  EXPECT_EQ(calls, 2);
}

TEST_P(DescriptorWatchTest, ReportsAHangUp) {
  Pipe pipe;
  uint32_t seen = 0;
  std::optional<DescriptorWatch> watch;
  watch.emplace(reactor(), pipe.reader(), [&](uint32_t events) {
    seen = events;
    watch->Watch(0);
  });
  watch->Watch(EPOLLIN);
  Settle();
  pipe.CloseWriter();
  ASSERT_TRUE(RunUntil([&] { return seen != 0; }));
  EXPECT_NE(seen & EPOLLHUP, 0U);
}

TEST_P(DescriptorWatchTest, TheNumberMayBeUsedAgainAtOnce) {
  // As a resolver does: it closes its descriptor and opens the next, and both have the same number.
  for (int round = 0; round < 5; ++round) {
    std::optional<DescriptorWatch> watch;
    int calls = 0;
    int number = -1;
    {
      const Pipe first;
      number = first.reader();
      watch.emplace(reactor(), number, [](uint32_t) { ADD_FAILURE(); });
      watch->Watch(EPOLLIN);
      if (round % 2 == 0) Settle();
      watch.reset();
    }
    const Pipe second;
    ASSERT_EQ(second.reader(), number);
    DescriptorWatch next(reactor(), number, [&](uint32_t) {
      ++calls;
      EXPECT_TRUE(second.ReadOne());
    });
    next.Watch(EPOLLIN);
    if (round >= 3) Settle();
    second.Write("ab");
    ASSERT_TRUE(RunUntil([&] { return calls == 2; })) << "round " << round;
  }
}

TEST_P(DescriptorWatchTest, ASocketMayTakeTheNumber) {
  int number = -1;
  {
    const Pipe pipe;
    number = pipe.reader();
    DescriptorWatch watch(reactor(), number, [](uint32_t) { ADD_FAILURE(); });
    watch.Watch(EPOLLIN);
    Settle();
  }
  auto [one, other] = testing::TcpPair();
  const int same = std::min(one, other);
  EXPECT_LE(same, number + 1);
  const RawPeer peer(std::max(one, other));
  StreamSocket socket(reactor(), same);
  Recorder recorder;
  socket.SetHandler(&recorder);
  peer.Send("hello");
  ASSERT_TRUE(RunUntil([&] { return recorder.received == "hello"; }));
}

TEST_P(DescriptorWatchTest, WhatCannotBeWatchedIsReportedOnce) {
  int calls = 0;
  std::optional<DescriptorWatch> watch;
  const int unused = 9999;
  watch.emplace(reactor(), unused, [&](uint32_t events) {
    EXPECT_EQ(events, static_cast<uint32_t>(EPOLLERR));
    ++calls;
    watch->Watch(0);
  });
  watch->Watch(EPOLLIN);
  ASSERT_TRUE(RunUntil([&] { return calls == 1; }));
  EXPECT_LE(TurnsWithin(std::chrono::milliseconds(20), 3), 3);
}

TEST_P(DescriptorWatchTest, MoreAtOnceThanTheSubmissionQueueHolds) {
  constexpr size_t kWatches = 3000;
  ASSERT_GT(RaiseOpenFilesLimit(), kWatches + 100);
  const Pipe pipe;
  std::vector<int> descriptors;
  std::list<DescriptorWatch> watches;
  size_t calls = 0;
  bool stop = false;
  for (size_t i = 0; i < kWatches; ++i) {
    descriptors.push_back(dup(pipe.reader()));
    ASSERT_GE(descriptors.back(), 0);
    watches.emplace_back(reactor(), descriptors.back(), [&](uint32_t) {
      ++calls;
      EXPECT_FALSE(stop);
    });
    watches.back().Watch(EPOLLIN);
  }
  Settle();
  EXPECT_EQ(calls, 0U);
  pipe.Write("x");
  ASSERT_TRUE(RunUntil([&] { return calls >= 3 * kWatches; }));
  stop = true;
  for (DescriptorWatch& watch : watches) watch.Watch(0);
  Settle();
  for (DescriptorWatch& watch : watches) watch.Watch(EPOLLOUT);
  watches.clear();
  Settle();
  for (const int descriptor : descriptors) close(descriptor);
}

class SignalWatchTest : public ReactorTest {};
TUNNEL_FOR_EVERY_BACKEND(SignalWatchTest);

TEST_P(SignalWatchTest, SeesBlockedSignals) {
  BlockSignals({SIGUSR1, SIGUSR2});
  std::vector<int> seen;
  const SignalWatch watch(reactor(), {SIGUSR1, SIGUSR2}, [&](int signal) { seen.push_back(signal); });
  ASSERT_EQ(raise(SIGUSR1), 0);
  ASSERT_EQ(raise(SIGPIPE), 0) << "ignored";
  ASSERT_TRUE(RunUntil([&] { return !seen.empty(); }));
  ASSERT_EQ(raise(SIGUSR2), 0);
  ASSERT_TRUE(RunUntil([&] { return seen.size() == 2; }));
  EXPECT_EQ(seen, (std::vector<int>{SIGUSR1, SIGUSR2}));
  EXPECT_LE(TurnsWithin(std::chrono::milliseconds(20), 3), 3);
}

TEST(Process, RaisesTheLimitOfOpenFiles) {
  const uint64_t limit = RaiseOpenFilesLimit();
  EXPECT_GE(limit, 256U);
  EXPECT_EQ(RaiseOpenFilesLimit(), limit);
}

}  // namespace
}  // namespace tunnel::core
