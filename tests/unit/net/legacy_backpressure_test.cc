// LegacyStream and LegacyCarrier when one end is slower than the other.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "legacy_stream_fixture.h"

namespace tunnel::net {
namespace {

using namespace std::chrono_literals;
using proto::Role;
using testing::ElementsAre;

class LegacyBackpressureTest : public LegacyStreamTest {};
INSTANTIATE_TEST_SUITE_P(Roles, LegacyBackpressureTest, testing::Values(Role::kClient, Role::kServer), RoleName);

TEST_P(LegacyBackpressureTest, KeepsSoMuchForAStoppedReaderThenStopsTheChannel) {
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

TEST_P(LegacyBackpressureTest, FreesTheChannelWhenAStoppedStreamGoes) {
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

TEST_P(LegacyBackpressureTest, CallsProducersInTurnWhenTheChannelHasDrained) {
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
TEST_P(LegacyBackpressureTest, KeepsSmallMessagesInFewBlocks) {
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

}  // namespace
}  // namespace tunnel::net
