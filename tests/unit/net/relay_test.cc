#include "net/relay.h"

#include <gtest/gtest.h>

#include <string>

#include "manual_backend.h"
#include "memory_stream.h"
#include "stream_recorder.h"

namespace tunnel::net {
namespace {

class RelayTest : public ManualReactorTest {
 protected:
  // What the streams that a relay joins lead to.
  struct Ends {
    std::unique_ptr<MemoryStream> channel;
    std::unique_ptr<MemoryStream> application;
    StreamRecorder channel_seen;
    StreamRecorder application_seen;
  };

  std::unique_ptr<Ends> Join(bool outside_ended = false) {
    auto ends = std::make_unique<Ends>();
    auto [tunnel, channel] = MemoryStream::Pair(reactor());
    auto [outside, application] = MemoryStream::Pair(reactor());
    ends->channel = std::move(channel);
    ends->application = std::move(application);
    ends->channel->SetHandler(&ends->channel_seen);
    ends->application->SetHandler(&ends->application_seen);
    relays_.Start(std::move(tunnel), std::move(outside), outside_ended);
    return ends;
  }

  RelaySet relays_{reactor()};
};

TEST_F(RelayTest, MovesBytesBothWaysAndCountsThem) {
  const auto ends = Join();
  ends->application->Send(Bytes("request"));
  ends->channel->Send(Bytes("the answer"));
  Settle();
  EXPECT_EQ(ends->channel_seen.received, "request");
  EXPECT_EQ(ends->application_seen.received, "the answer");
  EXPECT_EQ(reactor().counters().bytes_to_target.Get(), 10) << "what came out of the tunnel";
  EXPECT_EQ(reactor().counters().bytes_from_target.Get(), 7);
  EXPECT_EQ(relays_.size(), 1U);
}

TEST_F(RelayTest, PassesAHalfCloseOnAndEndsWithTheSecond) {
  for (const bool application_first : {true, false}) {
    const auto ends = Join();
    MemoryStream& first = application_first ? *ends->application : *ends->channel;
    MemoryStream& second = application_first ? *ends->channel : *ends->application;
    StreamRecorder& first_seen = application_first ? ends->application_seen : ends->channel_seen;
    StreamRecorder& second_seen = application_first ? ends->channel_seen : ends->application_seen;
    first.Send(Bytes("question"));
    first.FinishSend();
    Settle();
    EXPECT_EQ(second_seen.received, "question");
    EXPECT_EQ(second_seen.ends, 1);
    EXPECT_EQ(first_seen.ends, 0);
    EXPECT_EQ(relays_.size(), 1U);
    second.Send(Bytes("late answer"));
    Settle();
    EXPECT_EQ(first_seen.received, "late answer");
    second.FinishSend();
    Settle();
    EXPECT_EQ(first_seen.ends, 1);
    EXPECT_EQ(relays_.size(), 0U);
  }
}

TEST_F(RelayTest, KnowsOfAnEndThatWasPassedOnBefore) {
  const auto ends = Join(true);
  Settle();
  EXPECT_EQ(ends->channel_seen.ends, 0) << "it is not passed on again";
  ends->channel->Send(Bytes("answer"));
  ends->channel->FinishSend();
  Settle();
  EXPECT_EQ(ends->application_seen.received, "answer");
  EXPECT_EQ(ends->application_seen.ends, 1);
  EXPECT_EQ(relays_.size(), 0U);
}

TEST_F(RelayTest, ResetsTheOtherSideWhenOneDies) {
  for (const bool application : {true, false}) {
    const auto ends = Join();
    (application ? ends->application : ends->channel)->Abort();
    Settle();
    const StreamRecorder& other = application ? ends->channel_seen : ends->application_seen;
    ASSERT_TRUE(other.dead.has_value()) << "an end would look like the whole";
    EXPECT_FALSE(other.dead->ok());
    EXPECT_EQ(relays_.size(), 0U);
  }
}

TEST_F(RelayTest, StopsASourceWhoseSinkDoesNotRead) {
  for (const bool download : {true, false}) {
    const auto ends = Join();
    MemoryStream& source = download ? *ends->channel : *ends->application;
    MemoryStream& sink = download ? *ends->application : *ends->channel;
    StreamRecorder& seen = download ? ends->application_seen : ends->channel_seen;
    sink.PauseReceive();
    const std::string block(8192, 'x');
    size_t sent = 0;
    // A producer that minds writable(): far more than the bounds between it and the sink.
    for (int turn = 0; turn < 200; ++turn) {
      for (; source.writable() && sent < 100 * block.size(); sent += block.size()) source.Send(Bytes(block));
      Settle();
    }
    EXPECT_FALSE(source.writable());
    EXPECT_LE(sent, 2 * MemoryStream::kHighWaterBytes + 2 * block.size());
    // The other direction goes on.
    sink.Send(Bytes("still here"));
    Settle();
    EXPECT_EQ((download ? ends->channel_seen : ends->application_seen).received, "still here");
    // And this one does once the sink reads again.
    sink.ResumeReceive();
    for (int turn = 0; turn < 200; ++turn) {
      for (; source.writable() && sent < 100 * block.size(); sent += block.size()) source.Send(Bytes(block));
      Settle();
    }
    EXPECT_EQ(seen.received.size(), 100 * block.size());
  }
}

TEST_F(RelayTest, TellsWhenTheLastHasEnded) {
  int emptied = 0;
  relays_.SetEmptied([&] { ++emptied; });
  const auto first = Join();
  const auto second = Join();
  first->application->Abort();
  Settle();
  EXPECT_EQ(emptied, 0);
  second->channel->Abort();
  Settle();
  EXPECT_EQ(emptied, 1);
  EXPECT_EQ(relays_.size(), 0U);
  const auto third = Join();
  third->application->Abort();
  Settle();
  EXPECT_EQ(emptied, 2);
}

TEST_F(RelayTest, AbortsWhatRunsWhenTheSetGoes) {
  auto set = std::make_unique<RelaySet>(reactor());
  int emptied = 0;
  set->SetEmptied([&] { ++emptied; });
  auto [tunnel, channel] = MemoryStream::Pair(reactor());
  auto [outside, application] = MemoryStream::Pair(reactor());
  StreamRecorder channel_seen;
  StreamRecorder application_seen;
  channel->SetHandler(&channel_seen);
  application->SetHandler(&application_seen);
  set->Start(std::move(tunnel), std::move(outside));
  application->Send(Bytes("half a file"));
  Settle();
  set.reset();
  Settle();
  EXPECT_EQ(emptied, 0);
  EXPECT_TRUE(channel_seen.dead.has_value() && !channel_seen.dead->ok());
  EXPECT_TRUE(application_seen.dead.has_value() && !application_seen.dead->ok());
}

}  // namespace
}  // namespace tunnel::net
