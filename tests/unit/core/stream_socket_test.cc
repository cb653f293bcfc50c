#include "core/stream_socket.h"

#include <cerrno>

#include "core/limits.h"
#include "reactor_fixture.h"

namespace tunnel::core {
namespace {

using testing::Pattern;
using testing::RawPeer;
using testing::ReactorTest;
using testing::Recorder;
using testing::Sink;
using testing::Source;

class StreamSocketTest : public ReactorTest {
 protected:
  void SetUp() override {
    ReactorTest::SetUp();
    if (reactor_ == nullptr) return;
    auto [one, other] = testing::TcpPair();
    peer_.emplace(one);
    socket_ = StreamSocket(reactor(), other);
  }
  void TearDown() override {
    socket_.Close();
    peer_.reset();
    ReactorTest::TearDown();
  }
  std::optional<RawPeer> peer_;
  StreamSocket socket_;
  Recorder recorder_;
};
TUNNEL_FOR_EVERY_BACKEND_AND_SIM(StreamSocketTest);

// Sends back what it receives, pausing while its queue is full.
class Echo final : public StreamSocket::Handler {
 public:
  explicit Echo(StreamSocket& socket) : socket_(socket) {}
  void OnReceive(Slice data) override {
    EXPECT_FALSE(paused_) << "paused";
    socket_.Send(std::move(data));
    if (!socket_.writable()) {
      paused_ = true;
      socket_.PauseReceive();
    }
  }
  void OnReceiveEnd() override { socket_.FinishSend(); }
  void OnSendDrained() override {
    paused_ = false;
    socket_.ResumeReceive();
  }
  void OnSocketError(IoError error) override { FAIL() << ToString(error); }

 private:
  StreamSocket& socket_;
  bool paused_ = false;
};

TEST_P(StreamSocketTest, EchoesSixtyFourMebibytes) {
  constexpr uint64_t kTotal = uint64_t{64} * 1024 * 1024;
  auto [one, other] = testing::TcpPair();
  StreamSocket near(reactor(), one);
  StreamSocket far(reactor(), other);
  Echo echo(far);
  Recorder recorder;
  Source source(reactor(), near, kTotal);
  Sink sink;
  recorder.on_receive = [&](Slice& data) {
    sink.Take(data.bytes());
    recorder.received.clear();
  };
  const auto push = [&] {
    source.Push();
    if (source.done()) near.FinishSend();
  };
  recorder.on_drained = push;
  far.SetHandler(&echo);
  near.SetHandler(&recorder);
  push();
  ASSERT_TRUE(RunUntil([&] { return recorder.ends == 1 || recorder.error.has_value(); }));
  EXPECT_FALSE(recorder.error.has_value());
  EXPECT_EQ(sink.taken(), kTotal);
  EXPECT_TRUE(sink.sound());
  EXPECT_GT(recorder.drains, 10);
  EXPECT_EQ(reactor().counters().bytes_sent.Get(), 2 * static_cast<int64_t>(kTotal));
  EXPECT_EQ(reactor().counters().bytes_received.Get(), 2 * static_cast<int64_t>(kTotal));
}

TEST_P(StreamSocketTest, NothingIsDeliveredWhilePaused) {
  recorder_.on_receive = [&](Slice&) { socket_.PauseReceive(); };
  socket_.SetHandler(&recorder_);
  peer_->Send("first");
  ASSERT_TRUE(RunUntil([&] { return recorder_.received == "first"; }));
  peer_->Send(" second");
  Settle();
  peer_->Send(" third");
  peer_->FinishSend();
  Settle();
  EXPECT_EQ(recorder_.received, "first");
  EXPECT_EQ(recorder_.calls, 1);
  recorder_.on_receive = nullptr;
  socket_.ResumeReceive();
  EXPECT_EQ(recorder_.calls, 1) << "never from inside a call";
  ASSERT_TRUE(RunUntil([&] { return recorder_.ends == 1; }));
  EXPECT_EQ(recorder_.received, "first second third");
}

TEST_P(StreamSocketTest, PausingAtEveryStepKeepsOrder) {
  // What is in the kernel when the socket starts arrives in several pieces of one turn; each of them pauses.
  const std::string text = Pattern::Text(0, size_t{1024} * 1024);
  size_t sent = peer_->SendSome(text);
  bool paused = false;
  recorder_.on_receive = [&](Slice&) {
    EXPECT_FALSE(paused);
    paused = true;
    socket_.PauseReceive();
    reactor().Defer([&] {
      paused = false;
      socket_.ResumeReceive();
      if (recorder_.calls % 3 == 0) {  // changing one's mind within a turn
        socket_.PauseReceive();
        socket_.ResumeReceive();
      }
    });
  };
  recorder_.on_end = [&] { EXPECT_FALSE(paused); };
  socket_.SetHandler(&recorder_);
  bool finished = false;
  ASSERT_TRUE(RunUntil([&] {
    sent += peer_->SendSome(std::string_view(text).substr(sent));
    if (sent == text.size() && !finished) {
      finished = true;
      peer_->FinishSend();
    }
    return recorder_.ends == 1;
  }));
  EXPECT_TRUE(recorder_.received == text);
}

TEST_P(StreamSocketTest, AnEndThatCameWhilePausedWaits) {
  socket_.SetHandler(&recorder_);
  socket_.PauseReceive();
  peer_->Send("last words");
  peer_->FinishSend();
  Settle();
  EXPECT_EQ(recorder_.calls, 0);
  EXPECT_EQ(recorder_.ends, 0);
  socket_.ResumeReceive();
  ASSERT_TRUE(RunUntil([&] { return recorder_.ends == 1; }));
  EXPECT_EQ(recorder_.received, "last words");
  socket_.PauseReceive();
  socket_.ResumeReceive();
  Settle();
  EXPECT_EQ(recorder_.ends, 1) << "an end comes once";
}

TEST_P(StreamSocketTest, HandlersCanBeExchanged) {
  Recorder second;
  socket_.SetHandler(&recorder_);
  peer_->Send("one");
  ASSERT_TRUE(RunUntil([&] { return recorder_.received == "one"; }));
  socket_.SetHandler(nullptr);
  peer_->Send("two");
  Settle();
  socket_.SetHandler(&second);
  ASSERT_TRUE(RunUntil([&] { return second.received == "two"; }));
  EXPECT_EQ(recorder_.received, "one");
}

TEST_P(StreamSocketTest, AnExchangeInsideACallbackKeepsTheRest) {
  Recorder second;
  std::string text = Pattern::Text(0, 300'000);
  ASSERT_EQ(peer_->SendSome(text), text.size());
  recorder_.on_receive = [&](Slice&) { socket_.SetHandler(&second); };
  socket_.SetHandler(&recorder_);
  ASSERT_TRUE(RunUntil([&] { return recorder_.received.size() + second.received.size() == text.size(); }));
  EXPECT_EQ(recorder_.calls, 1);
  EXPECT_TRUE(recorder_.received + second.received == text);
}

TEST_P(StreamSocketTest, WhatIsPutBackComesFirst) {
  socket_.SetHandler(&recorder_);
  peer_->Send("read ahead");
  ASSERT_TRUE(RunUntil([&] { return recorder_.received.size() == 10; }));
  socket_.SetHandler(nullptr);
  peer_->Send("behind");
  peer_->FinishSend();
  Settle();
  socket_.PutBack(Bytes("second,"));
  socket_.PutBack(Bytes("first,"));
  socket_.PutBack(Slice());
  Recorder next;
  socket_.SetHandler(&next);
  EXPECT_EQ(next.received, "") << "from the reactor's turn only";
  ASSERT_TRUE(RunUntil([&] { return next.ends == 1; }));
  EXPECT_EQ(next.received, "first,second,behind");
}

TEST_P(StreamSocketTest, HalfCloseLeavesTheOtherDirection) {
  socket_.SetHandler(&recorder_);
  peer_->FinishSend();
  ASSERT_TRUE(RunUntil([&] { return recorder_.ends == 1; }));
  for (int i = 0; i < 10; ++i) socket_.Send(Bytes("answer "));
  socket_.FinishSend();
  ASSERT_TRUE(RunUntil([&] { return !peer_->Pump(); }));
  EXPECT_TRUE(peer_->ended);
  EXPECT_EQ(peer_->received.size(), 70U);
}

TEST_P(StreamSocketTest, FinishSendLeavesReceiving) {
  socket_.SetHandler(&recorder_);
  socket_.Send(Bytes("request"));
  socket_.FinishSend();
  ASSERT_TRUE(RunUntil([&] { return !peer_->Pump(); }));
  EXPECT_EQ(peer_->received, "request");
  peer_->Send("response");
  peer_->FinishSend();
  ASSERT_TRUE(RunUntil([&] { return recorder_.ends == 1; }));
  EXPECT_EQ(recorder_.received, "response");
  EXPECT_FALSE(recorder_.error.has_value());
}

TEST_P(StreamSocketTest, QueuesSmallAndLargePiecesInOrder) {
  // Before a handler is set, too; small pieces are joined and large ones are not copied.
  std::string expected;
  std::vector<std::unique_ptr<Slice>> kept;
  for (size_t i = 0; i < 400; ++i) {
    const size_t size = i % 7 == 0 ? 5000 + i : 1 + i % 300;
    const std::string text = Pattern::Text(i * 11, size);
    expected += text;
    Slice slice = Bytes(text);
    // Some are looked into by others still, which must not see them change.
    if (i % 5 == 0) kept.push_back(std::make_unique<Slice>(slice.Share()));
    socket_.Send(std::move(slice));
    if (i % 50 == 49) Settle();
  }
  EXPECT_LT(reactor().buffers().blocks_in_use(), 400U);
  socket_.FinishSend();
  ASSERT_TRUE(RunUntil([&] { return !peer_->Pump(); }));
  EXPECT_TRUE(peer_->received == expected);
  for (size_t i = 0; i < kept.size(); ++i) {
    EXPECT_TRUE(Pattern::Matches(i * 5 * 11, kept[i]->bytes()));
  }
}

TEST_P(StreamSocketTest, WritableFollowsTheMarks) {
  socket_.SetHandler(&recorder_);
  EXPECT_TRUE(socket_.writable());
  size_t queued = 0;
  // Past what the kernel takes, so that the queue stays full until the peer reads.
  while (socket_.queued_bytes() < 4 * kSendHighWaterBytes) {
    for (int i = 0; i < 16; ++i) {
      Slice block = reactor().buffers().Allocate(BufferPool::kMaxBlockBytes);
      Pattern::Fill(queued, block.bytes());
      queued += block.size();
      socket_.Send(std::move(block));
    }
    Settle();
  }
  EXPECT_FALSE(socket_.writable());
  const int before = recorder_.drains;
  size_t left = 0;
  recorder_.on_drained = [&] { left = socket_.queued_bytes(); };
  ASSERT_TRUE(RunUntil([&] {
    peer_->Pump();
    return peer_->received.size() == queued;
  }));
  EXPECT_EQ(recorder_.drains, before + 1);
  EXPECT_LE(left, kSendLowWaterBytes);
  EXPECT_TRUE(socket_.writable());
  EXPECT_EQ(socket_.queued_bytes(), 0U);
  EXPECT_TRUE(peer_->received == Pattern::Text(0, queued));
}

TEST_P(StreamSocketTest, AResetIsAnError) {
  socket_.SetHandler(&recorder_);
  peer_->Send("x");
  ASSERT_TRUE(RunUntil([&] { return recorder_.calls == 1; }));
  peer_->Reset();
  ASSERT_TRUE(RunUntil([&] { return recorder_.error.has_value(); }));
  EXPECT_EQ(recorder_.error, IoError::kReset);
  EXPECT_EQ(recorder_.ends, 0);
  socket_.Send(Bytes("into the void"));
  Settle();
  EXPECT_EQ(socket_.queued_bytes(), 0U);
}

TEST_P(StreamSocketTest, AResetBehindParkedBytesComesAfterThem) {
  const std::string text = Pattern::Text(0, 200'000);
  recorder_.on_receive = [&](Slice&) { socket_.PauseReceive(); };
  ASSERT_EQ(peer_->SendSome(text), text.size());
  socket_.SetHandler(&recorder_);
  ASSERT_TRUE(RunUntil([&] { return recorder_.calls == 1; }));
  peer_->Reset();
  Settle();
  EXPECT_FALSE(recorder_.error.has_value()) << "paused";
  recorder_.on_receive = nullptr;
  socket_.ResumeReceive();
  ASSERT_TRUE(RunUntil([&] { return recorder_.error.has_value(); }));
  EXPECT_EQ(recorder_.error, IoError::kReset);
  EXPECT_TRUE(text.starts_with(recorder_.received));
}

TEST_P(StreamSocketTest, AFailedSendDoesNotCostWhatWasReceived) {
  // The peer answers and closes without reading all that we sent: its kernel resets, and its answer is still here.
  const std::string answer = Pattern::Text(0, 60'000);
  socket_.SetHandler(&recorder_);
  socket_.PauseReceive();
  socket_.Send(Bytes("a request that is never read"));
  Settle();
  peer_->Send(answer);
  peer_->Close();
  socket_.Send(Bytes("more"));
  Settle();
  socket_.Send(Bytes("and more"));
  Settle();
  socket_.ResumeReceive();
  ASSERT_TRUE(RunUntil([&] { return recorder_.error.has_value() || recorder_.ends > 0; }));
  EXPECT_EQ(recorder_.error, IoError::kReset) << "not a clean end";
  EXPECT_TRUE(recorder_.received == answer) << recorder_.received.size();
}

TEST_P(StreamSocketTest, AFailedSendTellsWhoWaitsForRoom) {
  // An echo that is full pauses receiving until it drains; a dead connection must still reach it.
  socket_.SetHandler(&recorder_);
  while (socket_.queued_bytes() < 2 * kSendHighWaterBytes) {
    socket_.Send(reactor().buffers().Allocate(BufferPool::kMaxBlockBytes));
    Settle();
  }
  socket_.PauseReceive();
  recorder_.on_drained = [&] { socket_.ResumeReceive(); };
  peer_->Reset();
  ASSERT_TRUE(RunUntil([&] { return recorder_.error.has_value(); }));
  EXPECT_EQ(recorder_.error, IoError::kReset);
  EXPECT_EQ(socket_.queued_bytes(), 0U);
}

TEST_P(StreamSocketTest, AFailureBeforeThereIsAHandlerIsKept) {
  peer_->Reset();
  for (int i = 0; i < 3; ++i) {
    socket_.Send(Bytes("early"));
    Settle();
  }
  socket_.SetHandler(&recorder_);
  ASSERT_TRUE(RunUntil([&] { return recorder_.error.has_value() || recorder_.ends > 0; }));
  EXPECT_EQ(recorder_.error, IoError::kReset);
}

TEST_P(StreamSocketTest, KnowsItsAddresses) {
  EXPECT_EQ(socket_.local_address().ip(), "127.0.0.1");
  EXPECT_NE(socket_.peer_address().port(), 0);
  EXPECT_FALSE(socket_.peer_address() == socket_.local_address());
}

}  // namespace
}  // namespace tunnel::core
