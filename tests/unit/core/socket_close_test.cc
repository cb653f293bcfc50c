// Every way a socket goes: from within each callback, after sending, by reset, at a limit.
#include <cerrno>

#include "core/limits.h"
#include "core/stream_socket.h"
#include "reactor_fixture.h"

namespace tunnel::core {
namespace {

using std::chrono::milliseconds;
using testing::Pattern;
using testing::RawPeer;
using testing::ReactorTest;
using testing::Recorder;
using testing::Sink;
using testing::Source;

class SocketCloseTest : public ReactorTest {};
TUNNEL_FOR_EVERY_BACKEND_AND_SIM(SocketCloseTest);

// A connection that is destroyed, handler and socket, from within one of its callbacks.
class SelfDestroyer final : public StreamSocket::Handler {
 public:
  enum class When { kReceive, kSecondReceive, kEnd, kDrained, kError };
  enum class How { kDestroy, kClose, kReset, kCloseAfterSend };

  SelfDestroyer(Reactor& reactor, int descriptor, When when, How how, int& destroyed)
      : socket_(reactor, descriptor), when_(when), how_(how), destroyed_(destroyed) {
    socket_.SetHandler(this);
  }
  ~SelfDestroyer() { ++destroyed_; }
  SelfDestroyer(const SelfDestroyer&) = delete;
  SelfDestroyer& operator=(const SelfDestroyer&) = delete;

  void OnReceive(Slice data) override {
    EXPECT_FALSE(data.empty());
    ++received_;
    if (received_ == 1 && when_ == When::kSecondReceive) socket_.PauseReceive(), socket_.ResumeReceive();
    if (when_ == When::kReceive || (when_ == When::kSecondReceive && received_ == 2)) Go();
  }
  void OnReceiveEnd() override {
    if (when_ == When::kEnd) Go();
  }
  void OnSendDrained() override {
    if (when_ == When::kDrained) Go();
  }
  void OnSocketError(IoError) override {
    if (when_ == When::kError) Go();
  }
  StreamSocket& socket() { return socket_; }

 private:
  void Go() {
    switch (how_) {
      case How::kDestroy:
        break;
      case How::kClose:
        socket_.Close();
        break;
      case How::kReset:
        socket_.Reset();
        break;
      case How::kCloseAfterSend:
        socket_.CloseAfterSend(milliseconds(20));
        break;
    }
    delete this;
  }

  StreamSocket socket_;
  const When when_;
  const How how_;
  int& destroyed_;
  int received_ = 0;
};

TEST_P(SocketCloseTest, FromWithinEveryCallback) {
  using When = SelfDestroyer::When;
  using How = SelfDestroyer::How;
  const std::string text = Pattern::Text(0, 300'000);
  for (const When when : {When::kReceive, When::kSecondReceive, When::kEnd, When::kDrained, When::kError}) {
    for (const How how : {How::kDestroy, How::kClose, How::kReset, How::kCloseAfterSend}) {
      int destroyed = 0;
      auto [one, other] = testing::TcpPair();
      RawPeer peer(one);
      // Several pieces are there at once, so that others follow the one that ends it.
      (void)peer.SendSome(text);
      auto* connection = new SelfDestroyer(reactor(), other, when, how, destroyed);
      connection->socket().Send(Bytes("something in the queue"));
      if (when == When::kDrained) {
        while (connection->socket().queued_bytes() < 2 * kSendHighWaterBytes) {
          connection->socket().Send(reactor().buffers().Allocate(BufferPool::kMaxBlockBytes));
          Settle();
        }
      }
      if (when == When::kEnd) peer.FinishSend();
      if (when == When::kError) {
        Settle();
        peer.Reset();
      }
      ASSERT_TRUE(RunUntil([&] {
        if (when == When::kDrained) peer.Pump();
        return destroyed == 1;
      })) << static_cast<int>(when)
          << ' ' << static_cast<int>(how);
      ASSERT_TRUE(RunUntil([&] { return reactor().counters().sockets_open.Get() == 0; }));
    }
  }
}

TEST_P(SocketCloseTest, OfAPairFromOneCallback) {
  // A relay: what happens on one side ends both.
  for (int round = 0; round < 20; ++round) {
    auto [one, other] = testing::TcpPair();
    auto [third, fourth] = testing::TcpPair();
    const RawPeer left(one);
    const RawPeer right(third);
    std::optional<StreamSocket> a(StreamSocket(reactor(), other));
    std::optional<StreamSocket> b(StreamSocket(reactor(), fourth));
    Recorder recorder;
    recorder.on_receive = [&](Slice&) {
      a.reset();
      b.reset();
    };
    a->SetHandler(&recorder);
    b->SetHandler(&recorder);
    left.Send("both have something for this turn");
    right.Send("and only one is delivered");
    ASSERT_TRUE(RunUntil([&] { return recorder.calls > 0 && reactor().counters().sockets_open.Get() == 0; }));
    EXPECT_EQ(recorder.calls, 1);
  }
}

TEST_P(SocketCloseTest, EndsTheStreamForThePeer) {
  auto [one, other] = testing::TcpPair();
  RawPeer peer(one);
  {
    StreamSocket socket(reactor(), other);
    Recorder recorder;
    socket.SetHandler(&recorder);
    Settle();
  }
  ASSERT_TRUE(RunUntil([&] { return !peer.Pump(); }));
  EXPECT_TRUE(peer.ended);
}

TEST_P(SocketCloseTest, ResetIsSeenAsReset) {
  for (const bool started : {false, true}) {
    auto [one, other] = testing::TcpPair();
    RawPeer peer(one);
    StreamSocket socket(reactor(), other);
    Recorder recorder;
    if (started) socket.SetHandler(&recorder);
    socket.Send(Bytes("half a message"));
    Settle();
    socket.Reset();
    EXPECT_FALSE(socket.open());
    ASSERT_TRUE(RunUntil([&] { return !peer.Pump(); }));
    EXPECT_EQ(peer.error, ECONNRESET);
  }
}

TEST_P(SocketCloseTest, WithAFullQueueLetsGoAtOnce) {
  auto [one, other] = testing::TcpPair();
  const RawPeer peer(one);
  StreamSocket socket(reactor(), other);
  while (socket.queued_bytes() < 2 * kSendHighWaterBytes) {
    socket.Send(reactor().buffers().Allocate(BufferPool::kMaxBlockBytes));
    Settle();
  }
  socket.Close();
  ASSERT_TRUE(RunUntil(
      [&] { return reactor().counters().sockets_open.Get() == 0 && reactor().counters().buffers_in_use.Get() == 0; }));
}

TEST_P(SocketCloseTest, AfterSendDeliversEverything) {
  constexpr uint64_t kTotal = uint64_t{8} * 1024 * 1024;
  for (const bool peer_sends : {false, true}) {
    auto [one, other] = testing::TcpPair();
    StreamSocket peer(reactor(), one);
    StreamSocket socket(reactor(), other);
    Recorder ours;
    Recorder theirs;
    socket.SetHandler(&ours);
    // All of it is queued, far above high water: a close must not cost it.
    for (uint64_t at = 0; at < kTotal; at += BufferPool::kMaxBlockBytes) {
      Slice block = reactor().buffers().Allocate(BufferPool::kMaxBlockBytes);
      Pattern::Fill(at, block.bytes());
      socket.Send(std::move(block));
    }
    Sink sink;
    Source chatter(reactor(), peer, kTotal * 4);
    theirs.on_receive = [&](Slice& data) {
      sink.Take(data.bytes());
      theirs.received.clear();
      if (peer_sends) chatter.Push();  // the peer does not stop while we close
    };
    theirs.on_drained = [&] { chatter.Push(); };
    theirs.on_end = [&] { peer.Close(); };
    peer.SetHandler(&theirs);
    if (peer_sends) chatter.Push();
    Settle();
    socket.CloseAfterSend(testing::kPatience);
    EXPECT_FALSE(socket.open());
    ASSERT_TRUE(RunUntil([&] { return theirs.ends == 1 || theirs.error.has_value(); }));
    EXPECT_FALSE(theirs.error.has_value()) << "a reset destroys what the peer has not read";
    EXPECT_EQ(sink.taken(), kTotal);
    EXPECT_TRUE(sink.sound());
    ASSERT_TRUE(RunUntil([&] { return reactor().counters().sockets_open.Get() == 0; }));
    EXPECT_EQ(reactor().timers().armed(), 0U);
  }
}

TEST_P(SocketCloseTest, AfterSendFromEveryState) {
  enum class State { kNew, kPaused, kParked, kEnded, kParkedEnd, kFinished };
  for (const State state :
       {State::kNew, State::kPaused, State::kParked, State::kEnded, State::kParkedEnd, State::kFinished}) {
    auto [one, other] = testing::TcpPair();
    RawPeer peer(one);
    StreamSocket socket(reactor(), other);
    Recorder recorder;
    if (state == State::kParked || state == State::kParkedEnd) {
      (void)peer.SendSome(Pattern::Text(0, 300'000));
      recorder.on_receive = [&](Slice&) { socket.PauseReceive(); };
    }
    if (state == State::kEnded || state == State::kParkedEnd) peer.FinishSend();
    if (state != State::kNew) socket.SetHandler(&recorder);
    if (state == State::kPaused) socket.PauseReceive();
    Settle();
    socket.Send(Bytes("goodbye"));
    if (state == State::kFinished) socket.FinishSend();
    if (state == State::kFinished) Settle();
    socket.CloseAfterSend(testing::kPatience);
    ASSERT_TRUE(RunUntil([&] { return !peer.Pump(); })) << static_cast<int>(state);
    EXPECT_TRUE(peer.ended) << static_cast<int>(state);
    EXPECT_EQ(peer.received, "goodbye") << static_cast<int>(state);
    peer.Close();
    ASSERT_TRUE(RunUntil([&] { return reactor().counters().sockets_open.Get() == 0; })) << static_cast<int>(state);
    EXPECT_EQ(recorder.ends, state == State::kEnded ? 1 : 0);
  }
}

TEST_P(SocketCloseTest, AfterSendEndsAtItsLimit) {
  // One peer never reads, another never ends.
  auto [one, other] = testing::TcpPair();
  auto [third, fourth] = testing::TcpPair();
  const RawPeer deaf(one);
  const RawPeer open(third);
  StreamSocket stuck(reactor(), other);
  for (int i = 0; i < 256; ++i) stuck.Send(reactor().buffers().Allocate(BufferPool::kMaxBlockBytes));
  StreamSocket waiting(reactor(), fourth);
  waiting.Send(Bytes("bye"));
  const TimePoint start = reactor().now();
  stuck.CloseAfterSend(milliseconds(30));
  waiting.CloseAfterSend(milliseconds(30));
  ASSERT_TRUE(RunUntil([&] { return reactor().counters().sockets_open.Get() == 0; }));
  EXPECT_GE(reactor().backend().Now() - start, milliseconds(25));
}

TEST_P(SocketCloseTest, AfterSendEndsWhenThePeerResets) {
  auto [one, other] = testing::TcpPair();
  RawPeer peer(one);
  StreamSocket socket(reactor(), other);
  for (int i = 0; i < 256; ++i) socket.Send(reactor().buffers().Allocate(BufferPool::kMaxBlockBytes));
  socket.CloseAfterSend(std::chrono::hours(1));
  Settle();
  EXPECT_EQ(reactor().counters().sockets_open.Get(), 1);
  peer.Reset();
  ASSERT_TRUE(RunUntil([&] { return reactor().counters().sockets_open.Get() == 0; }));
}

TEST_P(SocketCloseTest, HandlesMoveAndClosedOnesAreHarmless) {
  auto [one, other] = testing::TcpPair();
  auto [third, fourth] = testing::TcpPair();
  RawPeer peer(one);
  RawPeer replaced_peer(third);
  StreamSocket socket(reactor(), other);
  StreamSocket replaced(reactor(), fourth);
  replaced = std::move(socket);
  ASSERT_TRUE(RunUntil([&] { return !replaced_peer.Pump(); })) << "assignment closes what was there";
  replaced.Send(Bytes("still here"));
  ASSERT_TRUE(RunUntil([&] {
    peer.Pump();
    return peer.received == "still here";
  }));
  StreamSocket empty;
  EXPECT_FALSE(empty.open());
  EXPECT_FALSE(empty.writable());
  EXPECT_EQ(empty.queued_bytes(), 0U);
  empty.Send(Bytes("nowhere"));
  empty.SetHandler(nullptr);
  empty.PauseReceive();
  empty.ResumeReceive();
  empty.FinishSend();
  empty.CloseAfterSend(milliseconds(1));
  empty.Reset();
  empty.Close();
}

}  // namespace
}  // namespace tunnel::core
