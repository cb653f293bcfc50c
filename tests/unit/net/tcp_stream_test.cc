#include "net/tcp_stream.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "net/limits.h"
#include "stream_fixture.h"

namespace tunnel::net {
namespace {

using testing::StartsWith;

class TcpStreamTest : public ReactorTest {
 protected:
  void SetUp() override {
    ReactorTest::SetUp();
    if (reactor_ == nullptr) return;
    const auto [near, far] = core::testing::TcpPair();
    stream_ = std::make_unique<TcpStream>(core::StreamSocket(reactor(), near));
    peer_ = std::make_unique<RawPeer>(far);
  }
  void TearDown() override {
    stream_.reset();
    ReactorTest::TearDown();
  }
  // Turns until the peer has seen its connection end or die.
  void RunUntilPeerIsThrough() {
    ASSERT_TRUE(RunUntil([&] { return !peer_->Pump(); }));
  }

  std::unique_ptr<TcpStream> stream_;
  std::unique_ptr<RawPeer> peer_;
  StreamRecorder seen_;
};
TUNNEL_FOR_BOTH_BACKENDS(TcpStreamTest);

TEST_P(TcpStreamTest, CarriesBytesAndHalfClosesBothWays) {
  EXPECT_THAT(stream_->peer(), StartsWith("127.0.0.1:"));
  stream_->SetHandler(&seen_);
  peer_->Send("question");
  peer_->FinishSend();
  ASSERT_TRUE(RunUntil([&] { return seen_.ends == 1; }));
  EXPECT_EQ(seen_.received, "question");
  stream_->Send(Bytes("answer"));
  stream_->FinishSend();
  RunUntilPeerIsThrough();
  EXPECT_EQ(peer_->received, "answer");
  EXPECT_EQ(peer_->error, 0);
  EXPECT_FALSE(seen_.dead.has_value());
}

TEST_P(TcpStreamTest, GivesToTheNextHandlerWhatCameMeanwhile) {
  StreamRecorder next;
  stream_->SetHandler(&seen_);
  peer_->Send("first");
  ASSERT_TRUE(RunUntil([&] { return seen_.received == "first"; }));
  stream_->SetHandler(nullptr);
  peer_->Send("second");
  Settle();
  EXPECT_EQ(seen_.received, "first");
  stream_->SetHandler(&next);
  ASSERT_TRUE(RunUntil([&] { return next.received == "second"; }));
}

TEST_P(TcpStreamTest, HoldsBackAnEndWhilePaused) {
  stream_->SetHandler(&seen_);
  stream_->PauseReceive();
  peer_->Send("kept");
  peer_->FinishSend();
  Settle();
  EXPECT_EQ(seen_.calls + seen_.ends, 0);
  stream_->ResumeReceive();
  ASSERT_TRUE(RunUntil([&] { return seen_.ends == 1; }));
  EXPECT_EQ(seen_.received, "kept");
}

TEST_P(TcpStreamTest, PushesBackAndTellsWhenItHasDrained) {
  stream_->SetHandler(&seen_);
  StreamSource source(reactor(), *stream_, uint64_t{16} * 1024 * 1024);
  seen_.on_drained = [&] { source.Push(); };
  source.Push();
  Settle();
  EXPECT_FALSE(source.done()) << "a peer that does not read stops the source";
  EXPECT_LE(stream_->queued_bytes(), core::kSendHighWaterBytes + core::BufferPool::kMaxBlockBytes);
  ASSERT_TRUE(RunUntil([&] {
    (void)peer_->Pump();
    return source.done() && stream_->queued_bytes() == 0;
  }));
  stream_->FinishSend();
  RunUntilPeerIsThrough();
  EXPECT_EQ(peer_->received.size(), source.sent());
  EXPECT_TRUE(Pattern::Matches(0, {reinterpret_cast<const uint8_t*>(peer_->received.data()), peer_->received.size()}));
  EXPECT_GE(seen_.drains, 1);
}

TEST_P(TcpStreamTest, ReportsAResetAfterWhatCameBefore) {
  stream_->SetHandler(&seen_);
  peer_->Send("before");
  ASSERT_TRUE(RunUntil([&] { return seen_.received == "before"; }));
  peer_->Reset();
  ASSERT_TRUE(RunUntil([&] { return seen_.dead.has_value(); }));
  EXPECT_THAT(std::string(MessageOf(*seen_.dead)), StartsWith(stream_->peer())) << "it names the peer";
  EXPECT_FALSE(seen_.dead->ok());
  EXPECT_EQ(seen_.ends, 0);
  stream_->Send(Bytes("into the void"));
  stream_->FinishSend();
}

TEST_P(TcpStreamTest, DeliversWhatIsQueuedWhenItCloses) {
  stream_->SetHandler(&seen_);
  const std::string text = Pattern::Text(0, 60000);
  stream_->Send(Bytes(text));
  stream_->CloseAfterSend(kFlushLimit);
  stream_.reset();
  RunUntilPeerIsThrough();
  EXPECT_EQ(peer_->received, text);
  EXPECT_EQ(peer_->error, 0);
  peer_->Close();
}

// Whoever is cut off must not take what it has for the whole.
TEST_P(TcpStreamTest, ResetsWhenAbortedOrDestroyed) {
  stream_->SetHandler(&seen_);
  for (const bool abort : {true, false}) {
    stream_->SetHandler(&seen_);
    stream_->Send(Bytes("half of it"));
    ASSERT_TRUE(RunUntil([&] {
      (void)peer_->Pump();
      return peer_->received == "half of it";
    }));
    if (abort) {
      stream_->Abort();
    } else {
      stream_.reset();
    }
    RunUntilPeerIsThrough();
    EXPECT_EQ(peer_->error, ECONNRESET) << (abort ? "aborted" : "destroyed");
    EXPECT_FALSE(seen_.dead.has_value()) << "its owner knows";
    if (abort) TcpStreamTest::SetUp();
  }
}

TEST_P(TcpStreamTest, MayBeDestroyedFromItsCallbacks) {
  for (const char* what : {"data", "end", "drained", "dead"}) {
    SCOPED_TRACE(what);
    const std::string_view where = what;
    if (stream_ == nullptr) TcpStreamTest::SetUp();
    StreamRecorder seen;
    stream_->SetHandler(&seen);
    (where == "data"      ? seen.on_data
     : where == "end"     ? seen.on_end
     : where == "drained" ? seen.on_drained
                          : seen.on_dead) = [&] { stream_.reset(); };
    StreamSource source(reactor(), *stream_, uint64_t{8} * 1024 * 1024);
    if (where == "data" || where == "end") peer_->Send("x");
    if (where == "end") peer_->FinishSend();
    if (where == "dead") peer_->Reset();
    if (where == "drained") source.Push();
    EXPECT_TRUE(RunUntil([&] {
      if (where == "drained") (void)peer_->Pump();
      return stream_ == nullptr;
    }));
  }
}

}  // namespace
}  // namespace tunnel::net
