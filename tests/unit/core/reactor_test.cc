#include "core/reactor.h"

#include <set>
#include <thread>

#include "core/listener.h"
#include "core/uring_features.h"
#include "reactor_fixture.h"

namespace tunnel::core {
namespace {

using std::chrono::milliseconds;
using testing::RawPeer;
using testing::ReactorTest;
using testing::Recorder;

class ReactorBasicsTest : public ReactorTest {};
TUNNEL_FOR_EVERY_BACKEND(ReactorBasicsTest);

TEST_P(ReactorBasicsTest, DescribesItself) {
  const std::string text = reactor().backend().Describe();
  EXPECT_EQ(text.starts_with("epoll"), GetParam().name == "epoll") << text;
  for (const std::string& feature : GetParam().options.backend_options.disabled_features) {
    EXPECT_EQ(text.find(feature), std::string::npos) << text;
  }
}

TEST_P(ReactorBasicsTest, DeferredCallsRunBeforeTheReactorWaits) {
  std::vector<int> order;
  reactor().Defer([&] {
    order.push_back(1);
    reactor().Defer([&] { order.push_back(3); });
  });
  reactor().Defer([&] { order.push_back(2); });
  reactor().Turn(reactor().backend().Now());
  EXPECT_EQ(order, (std::vector<int>{1, 2, 3}));
}

TEST_P(ReactorBasicsTest, AnIdleReactorDoesNotTurn) {
  auto [one, other] = testing::TcpPair();
  auto [third, fourth] = testing::TcpPair();
  RawPeer peer(one);
  const RawPeer paused_peer(third);
  StreamSocket socket(reactor(), other);
  StreamSocket paused(reactor(), fourth);
  Recorder recorder;
  Recorder paused_recorder;
  socket.SetHandler(&recorder);
  paused.SetHandler(&paused_recorder);
  auto listener =
      Listener::Open(reactor(), SocketAddress::V4({127, 0, 0, 1}, 0), false, [](StreamSocket, const SocketAddress&) {});
  ASSERT_TRUE(listener.ok());
  Timer later(reactor().timers(), [] { FAIL(); });
  later.SetAfter(std::chrono::hours(1));
  paused_peer.Send("first");
  ASSERT_TRUE(RunUntil([&] { return !paused_recorder.received.empty(); }));
  paused.PauseReceive();
  paused_peer.Send("and this waits");
  socket.Send(Bytes("hello"));
  ASSERT_TRUE(RunUntil([&] {
    peer.Pump();
    return peer.received == "hello";
  }));
  peer.FinishSend();
  ASSERT_TRUE(RunUntil([&] { return recorder.ends == 1; }));
  Settle();
  EXPECT_LE(TurnsWithin(milliseconds(200), 5), 5);
  EXPECT_EQ(paused_recorder.received, "first");
}

TEST_P(ReactorBasicsTest, TimersRunOnTimeWithoutSpinning) {
  int runs = 0;
  Timer timer(reactor().timers(), [&] { ++runs; });
  const TimePoint start = reactor().now();
  timer.SetAfter(milliseconds(30));
  const int64_t before = reactor().counters().turns.Get();
  while (runs == 0) reactor().Turn(kNever);
  EXPECT_GE(reactor().backend().Now() - start, milliseconds(30));
  EXPECT_LE(reactor().counters().turns.Get() - before, 6);
}

TEST_P(ReactorBasicsTest, DelaysSetByCompletionsCountFromThen) {
  auto [one, other] = testing::TcpPair();
  StreamSocket socket(reactor(), other);
  Recorder recorder;
  socket.SetHandler(&recorder);
  Settle();
  // The reactor sleeps long, then a completion sets a timer shorter than the sleep was.
  std::thread sender([descriptor = one] {
    const RawPeer peer(descriptor);
    std::this_thread::sleep_for(milliseconds(120));  // layers: allow, the length of the sleep is what is tested
    peer.Send("x");
  });
  bool expired = false;
  TimePoint received{};
  Timer timer(reactor().timers(), [&] { expired = true; });
  recorder.on_receive = [&](Slice&) {
    received = reactor().backend().Now();
    EXPECT_LE(received - reactor().now(), milliseconds(50)) << "now() is that of before the sleep";
    timer.SetAfter(milliseconds(60));
  };
  ASSERT_TRUE(received == TimePoint{});
  while (!expired) reactor().Turn(kNever);
  EXPECT_GE(reactor().backend().Now() - received, milliseconds(50));
  sender.join();
}

TEST_P(ReactorBasicsTest, FarTimersDoNotConfuseTheWait) {
  // Waits of more milliseconds than an int holds.
  Timer far(reactor().timers(), [] { FAIL(); });
  far.SetAfter(std::chrono::hours(24 * 60));
  bool woken = false;
  Timer near(reactor().timers(), [&] { woken = true; });
  reactor().Turn(reactor().backend().Now());
  std::thread waker([&] { reactor().Wake(); });
  reactor().Turn(kNever);
  waker.join();
  near.SetAfter(milliseconds(1));
  while (!woken) reactor().Turn(kNever);
}

TEST_P(ReactorBasicsTest, WakesFromAnyThreadAreNotLost) {
  constexpr int kRounds = 2000;
  std::atomic<int> asked{0};
  std::atomic<int> seen{0};
  reactor().SetMailboxDrain([&] {
    seen.store(asked.load());
    return true;
  });
  std::thread waker([&] {
    for (int i = 1; i <= kRounds; ++i) {
      asked.store(i);
      reactor().Wake();
      while (seen.load() < i) std::this_thread::yield();
    }
    reactor().Stop();
  });
  reactor().Run();
  waker.join();
  EXPECT_EQ(seen.load(), kRounds);
}

TEST_P(ReactorBasicsTest, StopBeforeRunAndManyWakes) {
  for (int i = 0; i < 10'000; ++i) reactor().Wake();
  EXPECT_LE(TurnsWithin(milliseconds(30), 5), 5) << "wakes add up to one";
  reactor().Stop();
  reactor().Run();
}

TEST_P(ReactorBasicsTest, RandomBytesDiffer) {
  std::set<uint64_t> seen;
  for (int i = 0; i < 1000; ++i) seen.insert(reactor().RandomU64());
  EXPECT_EQ(seen.size(), 1000U);
  // Every length, across the refill of the block they are drawn from; every byte is written.
  for (size_t size = 0; size < 3000; size += 37) {
    std::vector<uint8_t> touched(size);
    for (int i = 0; i < 16; ++i) {
      std::vector<uint8_t> bytes(size);
      reactor().FillRandom(bytes);
      for (size_t j = 0; j < size; ++j) touched[j] |= bytes[j];
    }
    EXPECT_LE(std::count(touched.begin(), touched.end(), 0), 2) << size;
  }
  for (int i = 0; i < 1000; ++i) {
    const Duration delay = reactor().RandomBelow(milliseconds(7));
    EXPECT_GE(delay.count(), 0);
    EXPECT_LT(delay, milliseconds(7));
  }
  EXPECT_EQ(reactor().RandomBelow(Duration::zero()).count(), 0);
  EXPECT_GT(reactor().WallSeconds(), 1'700'000'000);
}

TEST_P(ReactorBasicsTest, EndsWithEverythingStillOpen) {
  // What the services left: the reactor lets go of operations before it goes.
  auto [one, other] = testing::TcpPair();
  auto [third, fourth] = testing::TcpPair();
  RawPeer peer(one);
  const RawPeer lingering_peer(third);
  {
    StreamSocket socket(reactor(), other);
    Recorder recorder;
    socket.SetHandler(&recorder);
    Settle();
    StreamSocket lingering(reactor(), fourth);
    lingering.Send(Bytes("bye"));
    lingering.CloseAfterSend(std::chrono::hours(1));
    auto listener = Listener::Open(reactor(), SocketAddress::V4({127, 0, 0, 1}, 0), false,
                                   [](StreamSocket, const SocketAddress&) {});
    ASSERT_TRUE(listener.ok());
    socket.Release([](int, const std::string&) { ADD_FAILURE() << "whoever wanted it is gone"; });
  }
  reactor_.reset();
  while (peer.Pump()) std::this_thread::yield();
  EXPECT_TRUE(peer.ended || peer.error != 0);
}

TEST(UringFeatures, NamesSwitchThemOff) {
  std::string error;
  std::vector<std::string> all(UringFeatureNames().begin(), UringFeatureNames().end());
  const UringFeatures none = ProbeUring(all, error);
  if (!error.empty()) GTEST_SKIP() << error;
  EXPECT_EQ(none.Describe(), "no optional features");
  EXPECT_FALSE(none.single_issuer || none.registered_ring || none.multishot_accept || none.multishot_receive ||
               none.multishot_datagrams);
}

TEST(ReactorCreate, AutoFindsABackend) {
  std::string note;
  auto made = Reactor::Create({}, 3, note);
  ASSERT_TRUE(made.ok());
  EXPECT_EQ((*made)->index(), 3U);
  EXPECT_EQ(note.empty(), (*made)->backend().Describe().starts_with("io_uring"));
}

TEST(Counters, AreSummedOverCores) {
  Counters a;
  Counters b;
  a.bytes_sent.Add(5);
  b.bytes_sent.Add(7);
  b.sockets_open.Add();
  b.sockets_open.Add(-1);
  const std::string text = DescribeCounters({&a, &b});
  EXPECT_NE(text.find("bytes_sent=12"), std::string::npos) << text;
  EXPECT_NE(text.find("sockets_open=0"), std::string::npos) << text;
}

}  // namespace
}  // namespace tunnel::core
