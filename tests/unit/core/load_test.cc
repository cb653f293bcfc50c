// Many sockets at once: more than there are receive buffers, some of which are held, some of which never stop.
#include <list>

#include "core/limits.h"
#include "core/listener.h"
#include "core/process.h"
#include "reactor_fixture.h"

namespace tunnel::core {
namespace {

using testing::Pattern;
using testing::RawPeer;
using testing::ReactorTest;
using testing::Recorder;
using testing::Sink;
using testing::Source;

class LoadTest : public ReactorTest {
 protected:
  void SetUp() override {
    (void)RaiseOpenFilesLimit();
    ReactorTest::SetUp();
  }
};
TUNNEL_FOR_EVERY_BACKEND_AND_SIM(LoadTest);

// One end of many: sends a pattern of its own and checks the one that comes.
struct End final : StreamSocket::Handler {
  End(Reactor& reactor, int descriptor, uint64_t send_offset, uint64_t receive_offset, uint64_t total)
      : socket(reactor, descriptor), source(reactor, socket, total, send_offset), sink(receive_offset) {}
  void Push() {
    source.Push();
    if (source.done() && !std::exchange(finished, true)) socket.FinishSend();
  }
  void OnReceive(Slice data) override { sink.Take(data.bytes()); }
  void OnReceiveEnd() override { ended = true; }
  void OnSendDrained() override { Push(); }
  void OnSocketError(IoError error) override { ADD_FAILURE() << ToString(error); }

  StreamSocket socket;
  Source source;
  Sink sink;
  bool finished = false;
  bool ended = false;
};

TEST_P(LoadTest, ThreeHundredConnectionsShareTheBuffers) {
  constexpr uint64_t kConnections = 300;
  static_assert(kConnections > 4 * kReceiveBuffers);
  constexpr uint64_t kTotal = uint64_t{192} * 1024;
  std::list<End> ends;
  for (uint64_t i = 0; i < kConnections; ++i) {
    auto [one, other] = testing::TcpPair();
    ends.emplace_back(reactor(), one, i * 1000, i * 2000, kTotal);
    ends.emplace_back(reactor(), other, i * 2000, i * 1000, kTotal);
  }
  // Everybody's bytes are in the kernel before anybody receives: the ring runs empty at once.
  for (End& end : ends) end.Push();
  Settle();
  for (End& end : ends) end.socket.SetHandler(&end);
  ASSERT_TRUE(
      RunUntil([&] { return std::all_of(ends.begin(), ends.end(), [](const End& end) { return end.ended; }); }));
  for (const End& end : ends) {
    ASSERT_EQ(end.sink.taken(), kTotal);
    ASSERT_TRUE(end.sink.sound());
  }
}

TEST_P(LoadTest, WhoHoldsSlicesStarvesNobody) {
  // Each of these connections keeps every slice it ever got, large ones too, and never asks ForHolding().
  constexpr size_t kHolders = 3 * kReceiveBuffers;
  std::list<RawPeer> peers;
  std::list<StreamSocket> sockets;
  std::vector<Slice> held;
  std::vector<Slice>* keep = &held;
  Recorder holder;
  holder.on_receive = [keep](Slice& data) { keep->push_back(std::move(data)); };
  for (size_t i = 0; i < kHolders; ++i) {
    auto [one, other] = testing::TcpPair();
    peers.emplace_back(one);
    sockets.emplace_back(reactor(), other);
    sockets.back().SetHandler(&holder);
    peers.back().Send(Pattern::Text(i, i % 2 == 0 ? 1 : 30'000));
  }
  ASSERT_TRUE(RunUntil([&] { return holder.received.size() == kHolders / 2 * 30'001; }));
  EXPECT_GE(held.size(), kHolders);
  // Another connection goes at full speed beside them.
  constexpr uint64_t kTotal = uint64_t{8} * 1024 * 1024;
  auto [one, other] = testing::TcpPair();
  End near(reactor(), one, 0, 77, kTotal);
  End far(reactor(), other, 77, 0, kTotal);
  near.socket.SetHandler(&near);
  far.socket.SetHandler(&far);
  near.Push();
  far.Push();
  ASSERT_TRUE(RunUntil([&] { return near.ended && far.ended; }));
  EXPECT_TRUE(near.sink.sound() && far.sink.sound());
  EXPECT_LE(reactor().backend().receive_buffers_in_use(), kReceiveBuffers / 2 + 1);
  held.clear();
  EXPECT_EQ(reactor().backend().receive_buffers_in_use(), 0U);
}

TEST_P(LoadTest, AClosedStarvingSocketLetsGo) {
  // Sockets that wait for a buffer are paused, closed and reset like others.
  std::list<RawPeer> peers;
  std::list<StreamSocket> sockets;
  Recorder recorder;
  for (int i = 0; i < 200; ++i) {
    auto [one, other] = testing::TcpPair();
    peers.emplace_back(one);
    peers.back().Send(Pattern::Text(0, 150'000));
    sockets.emplace_back(reactor(), other);
    sockets.back().SetHandler(&recorder);
  }
  reactor().Turn(reactor().backend().Now());
  int i = 0;
  for (StreamSocket& socket : sockets) {
    ++i;
    if (i % 4 == 0) socket.PauseReceive();
    if (i % 4 == 1) socket.Close();
    if (i % 4 == 2) socket.Reset();
  }
  reactor().Turn(reactor().backend().Now());
  sockets.clear();
  ASSERT_TRUE(RunUntil([&] { return reactor().counters().sockets_open.Get() == 0; }));
}

TEST_P(LoadTest, AFloodDoesNotSilenceOthers) {
  // A peer that always has more bytes; the small request beside it is answered within a bounded number of turns.
  auto [one, other] = testing::TcpPair();
  StreamSocket flooder(reactor(), one);
  StreamSocket flooded(reactor(), other);
  Source source(reactor(), flooder, uint64_t{1} << 40);
  Recorder flood;
  Recorder swallow;
  swallow.on_receive = [&](Slice&) { swallow.received.clear(); };
  flood.on_drained = [&] { source.Push(); };
  flooder.SetHandler(&flood);
  flooded.SetHandler(&swallow);
  source.Push();
  ASSERT_TRUE(RunUntil([&] { return swallow.calls > 20; }));
  auto [third, fourth] = testing::TcpPair();
  RawPeer client(third);
  StreamSocket quiet(reactor(), fourth);
  Recorder recorder;
  recorder.on_receive = [&](Slice& data) { quiet.Send(std::move(data)); };
  quiet.SetHandler(&recorder);
  int64_t worst = 0;
  for (int i = 0; i < 50; ++i) {
    client.received.clear();
    client.Send("?");
    const int64_t before = reactor().counters().turns.Get();
    ASSERT_TRUE(RunUntil([&] {
      client.Pump();
      return !client.received.empty();
    }));
    worst = std::max(worst, reactor().counters().turns.Get() - before);
  }
  EXPECT_LE(worst, 20);
  int timer_runs = 0;
  Timer timer(reactor().timers(), [&] { ++timer_runs; });
  timer.SetAfter(std::chrono::milliseconds(5));
  ASSERT_TRUE(RunUntil([&] { return timer_runs == 1; }));
}

TEST_P(LoadTest, AcceptEchoCloseAgainAndAgain) {
  std::list<StreamSocket> served;
  std::list<Recorder> recorders;
  auto listener = Listener::Open(reactor(), SocketAddress::V4({127, 0, 0, 1}, 0), false,
                                 [&](StreamSocket accepted, const SocketAddress&) {
                                   StreamSocket& socket = served.emplace_back(std::move(accepted));
                                   Recorder& recorder = recorders.emplace_back();
                                   recorder.on_receive = [&socket](Slice& data) { socket.Send(std::move(data)); };
                                   recorder.on_end = [&socket] { socket.CloseAfterSend(testing::kPatience); };
                                   socket.SetHandler(&recorder);
                                 });
  ASSERT_TRUE(listener.ok());
  for (int round = 0; round < 10; ++round) {
    std::list<RawPeer> clients;
    for (int i = 0; i < 60; ++i) {
      clients.push_back(RawPeer::ConnectTo(listener->local_address()));
      clients.back().Send("echo me");
      clients.back().FinishSend();
    }
    ASSERT_TRUE(RunUntil([&] {
      bool all = true;
      for (RawPeer& client : clients) {
        client.Pump();
        all = all && client.ended;
      }
      return all;
    }));
    for (const RawPeer& client : clients) EXPECT_EQ(client.received, "echo me");
  }
  ASSERT_TRUE(RunUntil([&] { return reactor().counters().sockets_open.Get() == 1; }));
}

}  // namespace
}  // namespace tunnel::core
