// LegacyStream and LegacyCarrier: one channel of the legacy protocol whose peer is the test.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "legacy_stream_fixture.h"

namespace tunnel::net {
namespace {

using namespace std::chrono_literals;
using proto::ConnectionId;
using proto::LegacyType;
using proto::Role;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

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
