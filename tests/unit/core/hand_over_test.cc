// A socket changes its reactor: nothing is lost, and the old reactor forgets it entirely.
#include <list>
#include <memory>

#include "core/stream_socket.h"
#include "reactor_fixture.h"

namespace tunnel::core {
namespace {

using testing::Pattern;
using testing::RawPeer;
using testing::ReactorTest;
using testing::Recorder;

class HandOverTest : public ReactorTest {
 protected:
  void SetUp() override {
    ReactorTest::SetUp();
    if (reactor_ != nullptr) second_ = testing::MakeReactor(GetParam());
  }
  // Turns both reactors.
  bool RunBothUntil(const std::function<bool()>& done) {
    return RunUntil([&] {
      second_->Turn(second_->backend().Now());
      return done();
    });
  }
  std::unique_ptr<Reactor> second_;
};
TUNNEL_FOR_EVERY_BACKEND_AND_SIM(HandOverTest);

struct Released {
  int descriptor = -1;
  std::string received;
  int calls = 0;
  absl::AnyInvocable<void(int, std::string)> Callback() {
    return [this](int which, std::string bytes) {
      descriptor = which;
      received = std::move(bytes);
      ++calls;
    };
  }
};

TEST_P(HandOverTest, KeepsEveryByteInOrder) {
  enum class When { kUntouched, kIdle, kPaused, kParked, kInCallback };
  for (const When when : {When::kUntouched, When::kIdle, When::kPaused, When::kParked, When::kInCallback}) {
    auto [one, other] = testing::TcpPair();
    RawPeer peer(one);
    const std::string text = Pattern::Text(0, 600'000);
    size_t sent = 0;
    Recorder before;
    Released released;
    StreamSocket socket(reactor(), other);
    if (when == When::kIdle || when == When::kPaused) {
      socket.SetHandler(&before);
      Settle();
      if (when == When::kPaused) socket.PauseReceive();
    }
    sent = peer.SendSome(std::string_view(text).substr(0, 300'000));
    if (when == When::kParked) {
      before.on_receive = [&](Slice&) { socket.PauseReceive(); };
      socket.SetHandler(&before);
      Settle();
    }
    if (when == When::kInCallback) {
      before.on_receive = [&](Slice&) { socket.Release(released.Callback()); };
      socket.SetHandler(&before);
    } else {
      socket.Release(released.Callback());
    }
    EXPECT_EQ(released.calls, 0) << "not from inside the call";
    ASSERT_TRUE(RunUntil([&] { return released.calls == 1; }));
    EXPECT_FALSE(socket.open());
    EXPECT_EQ(released.descriptor, other);
    ASSERT_TRUE(RunUntil([&] { return reactor().counters().sockets_open.Get() == 0; }));

    StreamSocket moved(*second_, released.descriptor);
    Recorder after;
    moved.SetHandler(&after);
    bool finished = false;
    ASSERT_TRUE(RunBothUntil([&] {
      sent += peer.SendSome(std::string_view(text).substr(sent));
      if (sent == text.size() && !std::exchange(finished, true)) peer.FinishSend();
      return after.ends == 1;
    })) << static_cast<int>(when);
    EXPECT_TRUE(before.received + released.received + after.received == text) << static_cast<int>(when);
    moved.Send(second_->buffers().Copy("back"));
    moved.FinishSend();
    ASSERT_TRUE(RunBothUntil([&] { return !peer.Pump(); }));
    EXPECT_EQ(peer.received, "back");
    moved.Close();
    ASSERT_TRUE(RunBothUntil([&] { return second_->counters().sockets_open.Get() == 0; }));
  }
}

TEST_P(HandOverTest, TheNumberMayBeUsedAgain) {
  // The new owner closes the descriptor; the old reactor then gets a connection with the same number, twice over.
  int number = -1;
  for (int round = 0; round < 3; ++round) {
    auto [one, other] = testing::TcpPair();
    RawPeer peer(one);
    if (round == 0) number = other;
    EXPECT_EQ(other, number) << "the test needs the kernel to reuse it";
    StreamSocket socket(reactor(), other);
    Recorder recorder;
    socket.SetHandler(&recorder);
    peer.Send("ping");
    ASSERT_TRUE(RunUntil([&] { return recorder.received == "ping"; })) << "round " << round;
    socket.Send(Bytes("pong"));
    ASSERT_TRUE(RunUntil([&] {
      peer.Pump();
      return peer.received == "pong";
    })) << "round "
        << round;
    Released released;
    socket.Release(released.Callback());
    ASSERT_TRUE(RunUntil([&] { return released.calls == 1; }));
    StreamSocket moved(*second_, released.descriptor);
    Recorder after;
    moved.SetHandler(&after);
    peer.Send("more");
    ASSERT_TRUE(RunBothUntil([&] { return after.received == "more"; })) << "round " << round;
    // What happens there does not wake the old reactor any more.
    Settle();
    peer.Send("and more");
    EXPECT_LE(TurnsWithin(std::chrono::milliseconds(20), 3), 3);
    moved.Close();
    ASSERT_TRUE(RunBothUntil([&] { return second_->counters().sockets_open.Get() == 0; }));
  }
}

TEST_P(HandOverTest, AnEndThatWasSeenIsSeenAgain) {
  auto [one, other] = testing::TcpPair();
  const RawPeer peer(one);
  StreamSocket socket(reactor(), other);
  Recorder before;
  socket.SetHandler(&before);
  peer.Send("all");
  peer.FinishSend();
  ASSERT_TRUE(RunUntil([&] { return before.ends == 1; }));
  Released released;
  socket.Release(released.Callback());
  ASSERT_TRUE(RunUntil([&] { return released.calls == 1; }));
  StreamSocket moved(*second_, released.descriptor);
  Recorder after;
  moved.SetHandler(&after);
  ASSERT_TRUE(RunBothUntil([&] { return after.ends == 1; }));
  moved.Close();
  ASSERT_TRUE(RunBothUntil([&] { return second_->counters().sockets_open.Get() == 0; }));
}

TEST_P(HandOverTest, AnEndThatWasAskedForIsSent) {
  auto [one, other] = testing::TcpPair();
  RawPeer peer(one);
  StreamSocket socket(reactor(), other);
  socket.FinishSend();
  Released released;
  socket.Release(released.Callback());
  ASSERT_TRUE(RunUntil([&] { return !peer.Pump(); }));
  EXPECT_TRUE(peer.ended);
  ASSERT_TRUE(RunUntil([&] { return released.calls == 1; }));
  const RawPeer closer(released.descriptor);
}

TEST_P(HandOverTest, APeerThatTakesNothingIsCutOff) {
  if (testing::World() == nullptr) GTEST_SKIP() << "it takes the time it says, and that is real here";
  auto [one, other] = testing::TcpPair();
  RawPeer peer(one);
  StreamSocket socket(reactor(), other);
  Recorder recorder;
  socket.SetHandler(&recorder);
  // More than the buffers on the way hold.
  for (int i = 0; i < 400; ++i) socket.Send(Bytes(Pattern::Text(0, 65536)));
  bool called = false;
  auto held = std::make_shared<int>(1);
  const std::weak_ptr<int> watched = held;
  socket.Release([&called, held = std::move(held)](int, const std::string&) { called = true; });
  EXPECT_TRUE(RunUntil([&] { return watched.expired(); }));
  EXPECT_FALSE(called);
  EXPECT_TRUE(RunUntil([&] { return !peer.Pump(); }));
}

TEST_P(HandOverTest, BackToTheSameReactor) {
  auto [one, other] = testing::TcpPair();
  const RawPeer peer(one);
  StreamSocket socket(reactor(), other);
  Recorder recorder;
  socket.SetHandler(&recorder);
  Settle();
  for (int round = 0; round < 5; ++round) {
    std::string text;
    bool back = false;
    socket.Release([&](int descriptor, std::string received) {
      text = std::move(received);
      socket = StreamSocket(reactor(), descriptor);
      socket.SetHandler(&recorder);
      back = true;
    });
    peer.Send("x");
    ASSERT_TRUE(RunUntil([&] { return back; }));
    recorder.received += text;
    ASSERT_TRUE(RunUntil([&] { return recorder.received.size() == static_cast<size_t>(round) + 1; }));
  }
}

}  // namespace
}  // namespace tunnel::core
