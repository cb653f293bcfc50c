// LegacyStream and LegacyCarrier: one channel of the legacy protocol whose peer is the test.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "manual_backend.h"
#include "memory_stream.h"
#include "message_peer.h"
#include "net/legacy_carrier.h"
#include "net/limits.h"
#include "stream_recorder.h"

namespace tunnel::net {
namespace {

using proto::ConnectionId;
using proto::LegacyType;
using proto::Role;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

std::string IdText(int number) { return fmt::format("{:08}-0000-4000-8000-000000000000", number); }
ConnectionId Id(int number) { return *ConnectionId::Parse(IdText(number)); }

// A carrier that only has streams.
class TestCarrier final : public LegacyCarrier {
 public:
  using LegacyCarrier::Find;
  using LegacyCarrier::LegacyCarrier;
  using LegacyCarrier::MakeStream;

  std::vector<std::string> unknown;
  std::vector<std::string> malformed;
  std::vector<LegacyType> heads;
  std::string payload;
  int completed = 0;
  std::optional<absl::Status> channel_down;

 private:
  void OnHead(const proto::LegacyHead& head) override { heads.push_back(head.type); }
  void OnPayload(core::Slice piece) override { payload += piece.text(); }
  void OnMessageComplete() override { ++completed; }
  void OnMalformed(const proto::LegacyHead& head) override { malformed.emplace_back(head.id.view()); }
  void OnUnknownStream(const proto::LegacyHead& head) override { unknown.emplace_back(head.id.view()); }
  void OnChannelDown(const absl::Status& reason) override { channel_down = reason; }
};

class LegacyStreamTest : public ManualReactorTest, public testing::WithParamInterface<Role> {
 protected:
  LegacyStreamTest() {
    const Role role = GetParam();
    auto [near, far] = MemoryStream::Pair(reactor());
    socket_ = std::make_unique<WebSocket>(reactor(), std::move(near), WebSocket::Options{.role = role});
    carrier_ = std::make_unique<TestCarrier>(reactor(), *socket_, role, [this](const absl::Status& why) {
      down_ = why;
      if (on_down_) on_down_();
    });
    socket_->Start(carrier_.get(), {});
    peer_ = std::make_unique<MessagePeer>(reactor(), std::move(far), proto::PeerOf(role));
  }
  ~LegacyStreamTest() override {
    carrier_.reset();  // before its socket
    socket_.reset();
    held_.clear();
    Settle();
    EXPECT_EQ(reactor().counters().streams_open.Get(), 0);
  }

  // A stream with a recorder as its handler; both live as long as the test, or until Drop().
  struct Held {
    std::unique_ptr<LegacyStream> stream;
    StreamRecorder seen;
  };
  Held& Open(int number) {
    Held& held = held_[number];
    held.stream = carrier_->MakeStream(Id(number));
    EXPECT_NE(held.stream, nullptr);
    held.stream->SetHandler(&held.seen);
    return held;
  }
  void Drop(int number) { held_.erase(number); }

  void PeerSays(const std::string& message) {
    peer_->Say(message);
    Settle();
  }
  void PeerSendsData(int number, const std::string& payload) {
    peer_->SayBinary("DATA:" + IdText(number) + "|" + payload);
  }
  // What the peer has heard since the last call.
  std::vector<std::string> Heard() {
    Settle();
    return peer_->Take();
  }
  std::string Close(int number) { return "t CLOSE:" + IdText(number); }
  std::string Data(int number, const std::string& payload) { return "b DATA:" + IdText(number) + "|" + payload; }

  std::unique_ptr<WebSocket> socket_;
  std::unique_ptr<TestCarrier> carrier_;
  std::unique_ptr<MessagePeer> peer_;
  std::optional<absl::Status> down_;
  std::function<void()> on_down_;
  std::map<int, Held> held_;
};

std::string RoleName(const testing::TestParamInfo<Role>& tested) {
  return tested.param == Role::kClient ? "Client" : "Server";
}
INSTANTIATE_TEST_SUITE_P(Roles, LegacyStreamTest, testing::Values(Role::kClient, Role::kServer), RoleName);

// What only one end does.
class LegacyClientStreamTest : public LegacyStreamTest {};
INSTANTIATE_TEST_SUITE_P(Roles, LegacyClientStreamTest, testing::Values(Role::kClient), RoleName);
class LegacyServerStreamTest : public LegacyStreamTest {};
INSTANTIATE_TEST_SUITE_P(Roles, LegacyServerStreamTest, testing::Values(Role::kServer), RoleName);

TEST_P(LegacyStreamTest, BringsEachMessageToItsStream) {
  Held& one = Open(1);
  Held& two = Open(2);
  EXPECT_EQ(carrier_->streams(), 2U);
  PeerSendsData(1, "first");
  PeerSendsData(2, "other|with|bars");
  PeerSendsData(1, " second");
  Settle();
  EXPECT_EQ(one.seen.received, "first second");
  EXPECT_EQ(two.seen.received, "other|with|bars");
  one.stream->Send(Bytes("up"));
  two.stream->Send(Bytes("down"));
  EXPECT_THAT(Heard(), ElementsAre(Data(1, "up"), Data(2, "down")));
}

TEST_P(LegacyStreamTest, CutsLongDataIntoMessagesThePeersRead) {
  Held& one = Open(1);
  const std::string large(kDataMessageBytes + 100, 'x');
  one.stream->Send(Bytes(large));
  EXPECT_THAT(Heard(), ElementsAre(Data(1, large.substr(100)), Data(1, large.substr(0, 100))));
}

TEST_P(LegacyStreamTest, RefusesAnIdInUseAndTakesItAgainLater) {
  Open(1);
  EXPECT_EQ(carrier_->MakeStream(Id(1)), nullptr);
  EXPECT_EQ(carrier_->streams(), 1U);
  Drop(1);
  EXPECT_THAT(Heard(), ElementsAre(Close(1)));
  Held& again = Open(1);
  PeerSendsData(1, "a new stream");
  Settle();
  EXPECT_EQ(again.seen.received, "a new stream");
}

TEST_P(LegacyStreamTest, CarriesSoManyStreamsAndNoMore) {
  std::vector<std::unique_ptr<LegacyStream>> streams;
  for (size_t i = 0; i < kStreamsPerChannel; ++i) {
    streams.push_back(carrier_->MakeStream(Id(static_cast<int>(i))));
    ASSERT_NE(streams.back(), nullptr);
  }
  EXPECT_EQ(carrier_->MakeStream(Id(1000000)), nullptr);
  streams.pop_back();
  EXPECT_NE(carrier_->MakeStream(Id(1000000)), nullptr);
  EXPECT_EQ(carrier_->streams(), kStreamsPerChannel - 1);
}

// --- the end of a stream ---

TEST_P(LegacyStreamTest, EndsInOrderWithThePeersClose) {
  Held& one = Open(1);
  PeerSendsData(1, "all of it");
  PeerSays("CLOSE:" + IdText(1));
  EXPECT_EQ(one.seen.received, "all of it");
  ASSERT_TRUE(one.seen.dead.has_value());
  EXPECT_TRUE(one.seen.dead->ok());
  EXPECT_EQ(carrier_->streams(), 0U);
  one.stream->Send(Bytes("too late"));
  one.stream->FinishSend();
  Drop(1);
  EXPECT_THAT(Heard(), IsEmpty()) << "a CLOSE is not answered";
}

TEST_P(LegacyStreamTest, DeliversWhatItKeptBeforeThePeersClose) {
  Held& one = Open(1);
  one.stream->PauseReceive();
  PeerSendsData(1, "kept ");
  PeerSendsData(1, "back");
  PeerSays("CLOSE:" + IdText(1));
  EXPECT_EQ(one.seen.received, "");
  EXPECT_FALSE(one.seen.dead.has_value());
  one.stream->ResumeReceive();
  Settle();
  EXPECT_EQ(one.seen.received, "kept back");
  EXPECT_TRUE(one.seen.dead.has_value() && one.seen.dead->ok());
}

// A relay takes a stream over from whoever opened it, at any time.
TEST_P(LegacyStreamTest, TellsTheNextHandlerThatItIsOver) {
  Held& one = Open(1);
  StreamRecorder next;
  PeerSays("CLOSE:" + IdText(1));
  ASSERT_TRUE(one.seen.dead.has_value());
  one.stream->SetHandler(&next);
  Settle();
  EXPECT_TRUE(next.dead.has_value() && next.dead->ok());
  one.stream.reset();
}

TEST_P(LegacyStreamTest, ClosesBehindWhatWasSent) {
  for (const int how : {1, 2, 3}) {
    Held& one = Open(how);
    one.stream->Send(Bytes("last"));
    if (how == 1) one.stream->CloseAfterSend(1s);
    if (how == 2) one.stream->Abort();
    if (how == 3) one.stream.reset();
    EXPECT_THAT(Heard(), ElementsAre(Data(how, "last"), Close(how)));
    EXPECT_EQ(carrier_->Find(Id(how)), nullptr);
    EXPECT_FALSE(one.seen.dead.has_value()) << "its handler ended it";
  }
}

TEST_P(LegacyStreamTest, CallsNobodyAfterItWasClosed) {
  for (const bool abort : {false, true}) {
    Held& one = Open(1);
    one.stream->PauseReceive();
    PeerSendsData(1, "kept");
    Settle();
    // What is kept back is on its way when the handler changes its mind.
    one.stream->ResumeReceive();
    if (abort) {
      one.stream->Abort();
    } else {
      one.stream->CloseAfterSend(1s);
    }
    Settle();
    EXPECT_EQ(one.seen.calls, 0);
    EXPECT_FALSE(one.seen.dead.has_value());
    Drop(1);
  }
}

TEST_P(LegacyStreamTest, KnowsLateMessagesForWhatTheyAre) {
  Open(1);
  Drop(1);
  PeerSendsData(1, "late");
  PeerSays("CLOSE:" + IdText(1));
  PeerSendsData(7, "never opened");
  Settle();
  EXPECT_THAT(carrier_->unknown, ElementsAre(IdText(1), IdText(1), IdText(7)));
}

TEST_P(LegacyStreamTest, MayBeDestroyedFromItsCallbacks) {
  for (const char* what : {"data", "kept data", "end", "kept end", "drained"}) {
    SCOPED_TRACE(what);
    const std::string_view where = what;
    Held& one = Open(1);
    bool dropped = false;
    const auto drop = [&] {
      one.stream.reset();
      dropped = true;
    };
    if (where.ends_with("data")) one.seen.on_data = drop;
    if (where.ends_with("end")) one.seen.on_dead = drop;
    if (where == "drained") {
      one.seen.on_drained = drop;
      peer_->socket().PauseReceive();
      while (one.stream->writable()) one.stream->Send(Bytes(std::string(8000, 'x')));
      peer_->socket().ResumeReceive();
    } else {
      if (where.starts_with("kept")) one.stream->PauseReceive();
      if (where != "end") PeerSendsData(1, "one");
      if (where != "end") PeerSendsData(1, "two");
      PeerSays("CLOSE:" + IdText(1));
      if (where.starts_with("kept")) one.stream->ResumeReceive();
    }
    Settle();
    EXPECT_TRUE(dropped);
    EXPECT_EQ(carrier_->streams(), 0U);
    Drop(1);
    Heard();
  }
}

// A message whose stream goes away while it is read.
TEST_P(LegacyStreamTest, LosesOnlyTheRestOfAMessageWhenItsStreamGoes) {
  auto [near, far] = MemoryStream::Pair(reactor(), 10);
  WebSocket socket(reactor(), std::move(near), {.role = GetParam()});
  TestCarrier carrier(reactor(), socket, GetParam(), nullptr);
  socket.Start(&carrier, {});
  MessagePeer peer(reactor(), std::move(far), proto::PeerOf(GetParam()));
  auto stream = carrier.MakeStream(Id(1));
  auto other = carrier.MakeStream(Id(2));
  StreamRecorder seen;
  StreamRecorder other_seen;
  seen.on_data = [&] { stream.reset(); };
  stream->SetHandler(&seen);
  other->SetHandler(&other_seen);
  peer.SayBinary("DATA:" + IdText(1) + "|" + std::string(200, 'x'));
  peer.SayBinary("DATA:" + IdText(2) + "|" + std::string(200, 'y'));
  ASSERT_TRUE(RunUntil([&] { return other_seen.received.size() == 200; }));
  EXPECT_EQ(seen.calls, 1);
  EXPECT_EQ(carrier.heads.size(), 0U);
}

// --- half-close, which the protocol does not have ---

TEST_P(LegacyServerStreamTest, EndsAtOnceWhenTheTargetHasFinished) {
  Held& one = Open(1);
  one.stream->Send(Bytes("answer"));
  one.stream->FinishSend();
  EXPECT_FALSE(one.seen.dead.has_value()) << "never from inside a call";
  EXPECT_THAT(Heard(), ElementsAre(Data(1, "answer"), Close(1)));
  EXPECT_TRUE(one.seen.dead.has_value() && one.seen.dead->ok());
}

TEST_P(LegacyServerStreamTest, StillDeliversWhatTheClientHadSent) {
  Held& one = Open(1);
  one.stream->PauseReceive();
  PeerSendsData(1, "upload");
  Settle();
  one.stream->FinishSend();
  Settle();
  EXPECT_FALSE(one.seen.dead.has_value());
  one.stream->ResumeReceive();
  Settle();
  EXPECT_EQ(one.seen.received, "upload");
  EXPECT_TRUE(one.seen.dead.has_value() && one.seen.dead->ok());
}

TEST_P(LegacyServerStreamTest, AnnouncesOnlyWhatIsStillOpen) {
  Held& one = Open(1);
  EXPECT_TRUE(one.stream->Announce());
  EXPECT_THAT(Heard(), ElementsAre("t CONNECTED:" + IdText(1)));
  PeerSays("CLOSE:" + IdText(1));
  EXPECT_FALSE(one.stream->Announce());
  EXPECT_THAT(Heard(), IsEmpty());
}

TEST_P(LegacyClientStreamTest, WaitsForTheAnswerUntilTheTargetIsSilent) {
  Held& one = Open(1);
  one.stream->Send(Bytes("question"));
  one.stream->FinishSend();
  one.stream->FinishSend();
  one.stream->Send(Bytes("behind the end"));
  EXPECT_THAT(Heard(), ElementsAre(Data(1, "question")));
  for (int i = 0; i < 5; ++i) {
    RunFor(kLegacyHalfCloseLimit - 10ms);
    ASSERT_FALSE(one.seen.dead.has_value());
    PeerSendsData(1, "answer ");
  }
  RunFor(kLegacyHalfCloseLimit - 10ms);
  EXPECT_THAT(Heard(), IsEmpty());
  RunFor(20ms);
  EXPECT_THAT(Heard(), ElementsAre(Close(1)));
  EXPECT_EQ(one.seen.received, "answer answer answer answer answer ");
  EXPECT_TRUE(one.seen.dead.has_value() && one.seen.dead->ok());
}

TEST_P(LegacyClientStreamTest, EndsWithTheServersCloseWithoutWaiting) {
  Held& one = Open(1);
  one.stream->FinishSend();
  PeerSendsData(1, "answer");
  PeerSays("CLOSE:" + IdText(1));
  EXPECT_TRUE(one.seen.dead.has_value() && one.seen.dead->ok());
  RunFor(2 * kLegacyHalfCloseLimit);
  EXPECT_THAT(Heard(), IsEmpty());
}

// The silence must be the target's: while we do not read, it cannot be heard.
TEST_P(LegacyClientStreamTest, DoesNotTakeItsOwnPauseForTheTargetsSilence) {
  Held& one = Open(1);
  one.stream->FinishSend();
  one.stream->PauseReceive();
  const std::string block(16000, 'x');
  size_t sent = 0;
  const auto pump = [&] {
    for (; sent < 100 && peer_->socket().writable(); ++sent) PeerSendsData(1, block);
    Settle();
  };
  for (int i = 0; i < 100; ++i) pump();
  ASSERT_LT(sent, 100U) << "the channel has stopped";
  RunFor(5 * kLegacyHalfCloseLimit);
  EXPECT_THAT(Heard(), IsEmpty()) << "the answer is in the channel";
  // Slowly read: each pause is longer than the limit.
  one.seen.on_data = [&] { one.stream->PauseReceive(); };
  while (one.seen.received.size() < 100 * block.size()) {
    const size_t before = one.seen.received.size();
    one.stream->ResumeReceive();
    pump();
    ASSERT_GT(one.seen.received.size(), before);
    // To save turns, not at each of the hundred.
    const size_t left = 100 * block.size() - one.seen.received.size();
    if (left > 0 && (left / block.size() % 10 == 0 || left <= 3 * block.size())) RunFor(2 * kLegacyHalfCloseLimit);
    ASSERT_FALSE(one.seen.dead.has_value());
  }
  one.stream->ResumeReceive();
  RunFor(2 * kLegacyHalfCloseLimit + 10ms);
  EXPECT_THAT(Heard(), ElementsAre(Close(1)));
  EXPECT_TRUE(one.seen.dead.has_value() && one.seen.dead->ok());
}

TEST_P(LegacyClientStreamTest, DoesNotTakeAnotherStreamsPauseForTheTargetsSilence) {
  Held& waiting = Open(1);
  Held& stalled = Open(2);
  stalled.stream->PauseReceive();
  const std::string block(16000, 'x');
  for (int i = 0; i < 100; ++i) {
    while (peer_->socket().writable()) PeerSendsData(2, block);
    Settle();
  }
  waiting.stream->FinishSend();
  PeerSendsData(1, "answer");
  RunFor(5 * kLegacyHalfCloseLimit);
  EXPECT_FALSE(waiting.seen.dead.has_value());
  // The answer arrives when the channel reads again, and has the whole limit for it.
  stalled.stream->ResumeReceive();
  RunFor(kLegacyHalfCloseLimit - 10ms);
  EXPECT_EQ(waiting.seen.received, "answer");
  EXPECT_FALSE(waiting.seen.dead.has_value());
  RunFor(kLegacyHalfCloseLimit + 20ms);
  EXPECT_TRUE(waiting.seen.dead.has_value() && waiting.seen.dead->ok());
}

// --- backpressure ---

TEST_P(LegacyStreamTest, KeepsSoMuchForAStoppedReaderThenStopsTheChannel) {
  Held& stopped = Open(1);
  Held& other = Open(2);
  stopped.stream->PauseReceive();
  const std::string block(16000, 'x');
  size_t sent = 0;
  for (int i = 0; i < 200; ++i) {
    for (; peer_->socket().writable(); ++sent) PeerSendsData(1, block);
    Settle();
  }
  // The stream's bound, the transport's, and what was in the middle.
  EXPECT_GT(sent * block.size(), kParkedStreamBytes);
  EXPECT_LE(sent * block.size(), kParkedStreamBytes + MemoryStream::kHighWaterBytes + 3 * block.size());
  // No flow control: everyone behind it waits.
  PeerSendsData(2, "me too");
  Settle();
  EXPECT_EQ(other.seen.received, "");
  stopped.stream->ResumeReceive();
  Settle();
  ASSERT_TRUE(RunUntil([&] { return stopped.seen.received.size() == sent * block.size(); }));
  Settle();
  EXPECT_EQ(other.seen.received, "me too");
  EXPECT_TRUE(peer_->socket().writable());
}

TEST_P(LegacyStreamTest, FreesTheChannelWhenAStoppedStreamGoes) {
  for (const char* what : {"destroyed", "aborted", "closed", "closed by the peer"}) {
    SCOPED_TRACE(what);
    const std::string_view how = what;
    Held& stopped = Open(1);
    Held& other = Open(2);
    stopped.stream->PauseReceive();
    const std::string block(16000, 'x');
    // The peer's CLOSE must come through behind what is parked, so it stays below the bound until it follows.
    size_t sent = 0;
    for (; sent <= kParkedStreamBytes; sent += block.size()) {
      PeerSendsData(1, block);
      Settle();
    }
    if (how == "closed by the peer") {
      // In one piece with the data that passes the bound: what is read is dealt with.
      Drop(1);
      Held& again = Open(1);
      again.stream->PauseReceive();
      for (size_t i = 0; i < kParkedStreamBytes / block.size(); ++i) {
        PeerSendsData(1, block);
        Settle();
      }
      PeerSendsData(1, block);
      peer_->Say("CLOSE:" + IdText(1));
      Settle();
    }
    if (how == "destroyed") stopped.stream.reset();
    if (how == "aborted") stopped.stream->Abort();
    if (how == "closed") stopped.stream->CloseAfterSend(1s);
    PeerSendsData(2, "at last");
    if (how == "closed by the peer") held_[1].stream->ResumeReceive();
    Settle();
    EXPECT_EQ(other.seen.received, "at last");
    Drop(1);
    Drop(2);
    Settle();
  }
}

TEST_P(LegacyStreamTest, CallsProducersInTurnWhenTheChannelHasDrained) {
  Held& one = Open(1);
  Held& two = Open(2);
  peer_->socket().PauseReceive();
  std::vector<int> called;
  const std::string block(30000, 'x');
  const auto fill = [&](Held& held, int number) {
    held.seen.on_drained = [&, number] {
      called.push_back(number);
      // Each fills the channel again: nobody may starve.
      while (called.size() <= 6 && held.stream->writable()) held.stream->Send(Bytes(block));
    };
  };
  fill(one, 1);
  fill(two, 2);
  while (one.stream->writable()) one.stream->Send(Bytes(block));
  two.stream->Send(Bytes(block));
  EXPECT_FALSE(two.stream->writable());
  peer_->socket().ResumeReceive();
  ASSERT_TRUE(RunUntil([&] { return called.size() >= 6; }));
  called.resize(6);
  EXPECT_THAT(called, testing::AnyOf(ElementsAre(1, 2, 1, 2, 1, 2), ElementsAre(2, 1, 2, 1, 2, 1)));
  one.seen.on_drained = nullptr;
  two.seen.on_drained = nullptr;
}

// The bound is on bytes; what they are kept in must not cost much more, however small the messages are.
TEST_P(LegacyStreamTest, KeepsSmallMessagesInFewBlocks) {
  Held& stopped = Open(1);
  stopped.stream->PauseReceive();
  const int64_t before = reactor().counters().buffer_bytes_in_use.Get();
  std::string expected;
  for (int i = 0; i < 20000; ++i) {
    const std::string small(static_cast<size_t>(1 + i % 3), static_cast<char>('a' + i % 26));
    PeerSendsData(1, small);
    expected += small;
    if (i % 100 == 99) Settle();
  }
  Settle();
  EXPECT_LE(reactor().counters().buffer_bytes_in_use.Get() - before, static_cast<int64_t>(2 * expected.size() + 65536));
  stopped.stream->ResumeReceive();
  Settle();
  EXPECT_TRUE(stopped.seen.received == expected);
}

// --- the end of the channel ---

TEST_P(LegacyStreamTest, EndsEveryStreamWithTheChannel) {
  Held& reading = Open(1);
  Held& stopped = Open(2);
  stopped.stream->PauseReceive();
  PeerSendsData(2, "a half of something");
  Settle();
  int told_before_down = 0;
  on_down_ = [&] {
    told_before_down =
        static_cast<int>(reading.seen.dead.has_value()) + static_cast<int>(stopped.seen.dead.has_value());
  };
  peer_->Destroy();
  Settle();
  ASSERT_TRUE(down_.has_value());
  EXPECT_EQ(told_before_down, 2);
  EXPECT_TRUE(carrier_->channel_down.has_value());
  for (const Held* held : {&reading, &stopped}) {
    ASSERT_TRUE(held->seen.dead.has_value());
    EXPECT_TRUE(absl::IsUnavailable(*held->seen.dead));
    EXPECT_THAT(std::string(MessageOf(*held->seen.dead)), HasSubstr("channel lost"));
  }
  EXPECT_EQ(stopped.seen.received, "") << "it cannot become the whole";
  EXPECT_FALSE(carrier_->up());
  EXPECT_EQ(carrier_->streams(), 0U);
  EXPECT_EQ(carrier_->MakeStream(Id(3)), nullptr);
  // Everything is harmless now.
  reading.stream->Send(Bytes("x"));
  reading.stream->PauseReceive();
  reading.stream->ResumeReceive();
  reading.stream->FinishSend();
  stopped.stream->Abort();
  RunFor(2 * kLegacyHalfCloseLimit);
}

TEST_P(LegacyStreamTest, EndsItsStreamsWhenTheCarrierIsDestroyed) {
  Held& one = Open(1);
  carrier_.reset();
  ASSERT_TRUE(one.seen.dead.has_value());
  EXPECT_FALSE(one.seen.dead->ok());
  EXPECT_FALSE(down_.has_value()) << "whoever destroys it knows";
  one.stream->Send(Bytes("x"));
  // Its socket has no handler any more.
  peer_.reset();
  socket_.reset();
}

TEST_P(LegacyStreamTest, LetsStreamsDestroyEachOtherWhenTheChannelGoes) {
  for (int i = 1; i <= 10; ++i) {
    Open(i).seen.on_dead = [this, i] {
      for (int j = 1; j <= 10; ++j) {
        if (j % 2 != i % 2) held_[j].stream.reset();
      }
    };
  }
  peer_->Destroy();
  Settle();
  EXPECT_EQ(carrier_->streams(), 0U);
}

TEST_P(LegacyStreamTest, HoldsNoChannelPauseOfTheDead) {
  Held& stopped = Open(1);
  stopped.stream->PauseReceive();
  for (int i = 0; i < 100; ++i) {
    while (peer_->socket().writable()) PeerSendsData(1, std::string(16000, 'x'));
    Settle();
  }
  // The channel does not read, so its end shows by the closing handshake that nobody answers.
  socket_->Close(1001, "stop");
  RunFor(kCloseLimit + 10ms);
  ASSERT_TRUE(down_.has_value());
  EXPECT_TRUE(stopped.seen.dead.has_value());
  EXPECT_EQ(stopped.seen.received, "");
}

// --- messages that are none ---

TEST_P(LegacyStreamTest, IgnoresWhatItCannotReadAndGoesOn) {
  Held& one = Open(1);
  for (const char* text : {"", "x", "DATA", "DATA:", "DATA:short|x", "NONSENSE:whatever", "CLOSE:", "\xFF\xFE"}) {
    PeerSays(text);
  }
  PeerSays("DATA:" + IdText(1));  // without the bar
  PeerSendsData(1, "fine");
  Settle();
  EXPECT_EQ(one.seen.received, "fine");
  EXPECT_GT(reactor().counters().messages_ignored.Get(), 5);
  EXPECT_FALSE(down_.has_value()) << "one message is not the channel";
}

}  // namespace
}  // namespace tunnel::net
