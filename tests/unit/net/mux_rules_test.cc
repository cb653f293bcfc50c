// Every rule of docs/wire-native.md that a peer can break: what the one that is broken gets, and that nobody else
// notices.
#include <gmock/gmock.h>

#include <array>

#include "mux_rules_fixture.h"

namespace tunnel::net {
namespace {

using namespace std::chrono_literals;
using proto::MuxFrame;
using proto::MuxKind;
using proto::MuxType;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

const proto::Target kNowhere{.host = "0.0.0.0", .port = 0};

// A server's session whose client is the test, on channels of its own, beside another session that has nothing to do
// with it.
class MuxServerRules : public MuxRulesTest {
 protected:
  MuxServerRules() : MuxRulesTest(proto::Role::kClient) {
    bystander_ = std::make_unique<StreamRecorder>();
    AddLink();
    stream_ = OpenStream(*bystander_);
    EXPECT_TRUE(RunUntil([&] { return targets_.size() == 1; }));
    tested_ = std::make_unique<MuxServerSession>(MuxServerParts{.reactor = reactor(),
                                                                .budget = tested_budget_,
                                                                .connector = connector_,
                                                                .datagrams = datagrams_,
                                                                .relays = relays_,
                                                                .scope = scope_,
                                                                .settled = nullptr},
                                                 7);
    AddChannel();
  }
  ~MuxServerRules() override {
    // The session beside it goes on.
    stream_->Send(Bytes("still here"));
    EXPECT_TRUE(RunUntil([&] { return targets_[0]->seen.received == "still here"; }));
    stream_.reset();
    channels_.clear();
    scope_.Cancel();
    EXPECT_TRUE(RunUntil([&] { return scope_.empty(); }));
    tested_.reset();
    EXPECT_EQ(tested_budget_.windows(), 0U);
  }

  MuxSession& tested() override { return *tested_; }

  // Opens stream `id` to the target that listens; returns it.
  Target& OpenTarget(uint32_t id, std::string_view first = {}, size_t channel = 0) {
    const proto::Target to{.host = "127.0.0.1", .port = port()};
    const size_t before = targets_.size();
    Say({.type = MuxType::kOpen, .stream = id, .limit = kMuxFirstWindowBytes, .address = &to}, first, channel);
    EXPECT_TRUE(RunUntil([&] { return targets_.size() == before + 1 && tested_->streams() > 0; }));
    EXPECT_TRUE(RunUntil([&] {
      for (const std::string& words : Heard(channel)) opened_ |= words == fmt::format("OPENED {} status=0", id);
      return opened_;
    }));
    opened_ = false;
    return *targets_.back();
  }
  // The channel is closed with 1002, and its session knows of it.
  void ExpectClosed(size_t channel = 0) {
    Settle();
    ASSERT_TRUE(channels_[channel]->peer->down.has_value());
    EXPECT_THAT(std::string(MessageOf(*channels_[channel]->peer->down)), HasSubstr("1002"));
    EXPECT_FALSE(channels_[channel]->mux->up());
  }

  std::unique_ptr<MuxServerSession> tested_;
  std::unique_ptr<StreamRecorder> bystander_;
  std::unique_ptr<ByteStream> stream_;
  bool opened_ = false;
};

// What ends the channel. The codec's own tests have every form; here it is that it ends, and is counted.
TEST_F(MuxServerRules, WhatIsNoFrameEndsTheChannel) {
  const int64_t before = reactor().counters().protocol_errors.Get();
  int64_t broken = 0;
  for (const std::string& bytes : {
           std::string("short"),
           std::string("\x03\0\x01\0\0\0\0\x01x", 9),                                  // reserved bytes
           std::string("\x0d\0\0\0\0\0\0\0", 8),                                       // an unknown type
           std::string("\x03\0\0\0\0\0\0\x01", 8),                                     // DATA of nothing
           std::string("\x07\0\0\0\0\0\0\x01", 8) + "12345678",                        // PING of a stream
           std::string("\x02\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0", 24),  // OPENED of its own
           std::string("\x03\0\0\0\0\0\0\x01", 8) + std::string(proto::kMuxMaxPayloadBytes + 1, 'x'),
       }) {
    SCOPED_TRACE(bytes.substr(0, 24));
    AddChannel();
    const size_t channel = channels_.size() - 1;
    SayBytes(bytes, channel);
    ExpectClosed(channel);
    ++broken;
  }
  AddChannel();
  channels_.back()->peer->Say("text");
  ExpectClosed(channels_.size() - 1);
  EXPECT_EQ(reactor().counters().protocol_errors.Get() - before, broken + 1);
  EXPECT_TRUE(channels_[0]->mux->up());
}

TEST_F(MuxServerRules, BytesBeyondTheLimitResetTheStream) {
  Target& target = OpenTarget(1);
  Target& other = OpenTarget(3);
  target.stream->PauseReceive();
  // The target's socket takes some; what a stalled one does not is held, up to the limit and no further.
  const std::string piece(60'000, 'x');
  std::vector<std::string> heard;
  for (int i = 0; i < 400 && heard.empty(); ++i) {
    Say({.type = MuxType::kData, .stream = 1}, piece);
    for (const std::string& words : Heard()) {
      if (words.starts_with("RESET")) heard.push_back(words);
    }
  }
  EXPECT_THAT(heard, ElementsAre("RESET 1 code=1"));
  EXPECT_GE(reactor().counters().streams_broken.Get(), 1);
  Say({.type = MuxType::kData, .stream = 3}, "fine");
  EXPECT_TRUE(RunUntil([&] { return other.seen.received == "fine"; }));
}

TEST_F(MuxServerRules, WhatDoesNotFitAStreamResetsIt) {
  struct Case {
    const char* what;
    std::vector<std::pair<MuxFrame, std::string>> frames;
  };
  const proto::Target somewhere{.host = "127.0.0.1", .port = 9};
  const std::vector<Case> cases = {
      {"bytes behind FIN", {{{.type = MuxType::kData, .fin = true}, "end"}, {{.type = MuxType::kData}, "more"}}},
      {"a second FIN", {{{.type = MuxType::kData, .fin = true}, "end"}, {{.type = MuxType::kData, .fin = true}, ""}}},
      {"consumed beyond what was sent", {{{.type = MuxType::kCredit, .offset = 1, .limit = 1}, ""}}},
      {"FIN that was not sent", {{{.type = MuxType::kCredit, .fin = true}, ""}}},
      {"received beyond what was sent", {{{.type = MuxType::kResume, .generation = 1, .offset = 1, .limit = 1}, ""}}},
      {"FIN received that was not sent", {{{.type = MuxType::kResume, .fin = true, .generation = 1}, ""}}},
      {"a datagram on a stream of bytes", {{{.type = MuxType::kDatagram, .address = &somewhere}, "x"}}},
  };
  uint32_t id = 1;
  for (const Case& tested : cases) {
    SCOPED_TRACE(tested.what);
    OpenTarget(id);
    for (auto [frame, payload] : tested.frames) {
      frame.stream = id;
      Say(frame, payload);
    }
    std::vector<std::string> resets;
    for (const std::string& words : Heard()) {
      if (words.starts_with("RESET")) resets.push_back(words);
    }
    EXPECT_THAT(resets, ElementsAre(fmt::format("RESET {} code=5", id)));
    EXPECT_EQ(tested_->Find(id), nullptr);
    id += 2;
  }
  // DATA on an association.
  Say({.type = MuxType::kOpen, .kind = MuxKind::kUdp, .stream = id, .address = &kNowhere});
  Say({.type = MuxType::kData, .stream = id}, "x");
  EXPECT_THAT(Heard(), ElementsAre(fmt::format("OPENED {} status=0", id), fmt::format("RESET {} code=5", id)));
  EXPECT_TRUE(channels_[0]->mux->up());
}

TEST_F(MuxServerRules, ConsumedMayNotGoBack) {
  Target& target = OpenTarget(1);
  target.stream->Send(Bytes("0123456789"));
  ASSERT_TRUE(RunUntil([&] { return !Heard().empty(); }));
  Say({.type = MuxType::kCredit, .stream = 1, .offset = 5, .limit = 100});
  Say({.type = MuxType::kCredit, .stream = 1, .offset = 4, .limit = 100});
  EXPECT_THAT(Heard(), ElementsAre("RESET 1 code=5"));
}

TEST_F(MuxServerRules, UnknownStreams) {
  Say({.type = MuxType::kData, .stream = 9}, "nobody");
  Say({.type = MuxType::kCredit, .stream = 9});
  Say({.type = MuxType::kReset, .stream = 9});
  const proto::Target somewhere{.host = "127.0.0.1", .port = 9};
  Say({.type = MuxType::kDatagram, .stream = 9, .address = &somewhere}, "x");
  EXPECT_THAT(Heard(), IsEmpty()) << "they have just ended";
  Say({.type = MuxType::kResume, .stream = 9, .generation = 1});
  EXPECT_THAT(Heard(), ElementsAre("RESET 9 code=3"));
}

TEST_F(MuxServerRules, AnOpenThatComesLateConnectsNothing) {
  OpenTarget(1);
  Say({.type = MuxType::kReset, .stream = 1});
  ASSERT_EQ(tested_->streams(), 0U);
  const size_t before = targets_.size();
  const proto::Target to{.host = "127.0.0.1", .port = port()};
  Say({.type = MuxType::kOpen, .stream = 1, .limit = 1000, .address = &to}, "again");
  EXPECT_THAT(Heard(), ElementsAre("RESET 1 code=3"));
  Say({.type = MuxType::kOpen, .stream = 1, .generation = 3, .limit = 1000, .address = &to});
  EXPECT_THAT(Heard(), ElementsAre("RESET 1 code=3"));
  for (int i = 0; i < 20; ++i) Settle();
  EXPECT_EQ(targets_.size(), before);
}

TEST_F(MuxServerRules, MovesOnlyUpwards) {
  Target& target = OpenTarget(1, "abc");
  AddChannel();
  target.stream->Send(Bytes("0123456789"));
  ASSERT_TRUE(RunUntil([&] { return !Heard(0).empty(); }));
  Say({.type = MuxType::kResume, .stream = 1, .generation = 2, .offset = 6, .limit = 1000}, {}, 1);
  EXPECT_THAT(Heard(1), ElementsAre("RESUMED 1 generation=2 received=3", "DATA 1 6789"));
  // Late, on the channel it left: nothing of it counts.
  Say({.type = MuxType::kResume, .stream = 1, .generation = 1, .offset = 0, .limit = 1000}, {}, 0);
  Say({.type = MuxType::kData, .stream = 1}, "late", 0);
  EXPECT_THAT(Heard(0), IsEmpty());
  Say({.type = MuxType::kData, .stream = 1}, "def", 1);
  EXPECT_TRUE(RunUntil([&] { return target.seen.received == "abcdef"; }));
  // But a RESET does.
  Say({.type = MuxType::kReset, .stream = 1}, {}, 0);
  EXPECT_EQ(tested_->Find(1), nullptr);
}

TEST_F(MuxServerRules, OpenAgainIsAnsweredTwice) {
  Target& target = OpenTarget(1, "abc");
  AddChannel();
  const proto::Target to{.host = "127.0.0.1", .port = port()};
  const size_t before = targets_.size();
  Say({.type = MuxType::kOpen, .stream = 1, .generation = 1, .limit = 1000, .address = &to}, {}, 1);
  EXPECT_THAT(Heard(1), testing::IsSupersetOf({"RESUMED 1 generation=1 received=3", "OPENED 1 status=0"}));
  Say({.type = MuxType::kData, .stream = 1}, "def", 1);
  EXPECT_TRUE(RunUntil([&] { return target.seen.received == "abcdef"; }));
  EXPECT_EQ(targets_.size(), before);
}

TEST_F(MuxServerRules, IgnoresWhatIsToBeIgnored) {
  Target& target = OpenTarget(1);
  Say({.type = MuxType::kPad}, "anything");
  SayBytes(std::string("\x80\x7f\0\0\xff\xff\xff\xff", 8) + "of a later version");
  Say({.type = MuxType::kPong, .opaque = std::array<uint8_t, 8>{}});
  EXPECT_THAT(Heard(), IsEmpty());
  Say({.type = MuxType::kData, .stream = 1}, "fine");
  EXPECT_TRUE(RunUntil([&] { return target.seen.received == "fine"; }));
}

TEST_F(MuxServerRules, RefusesOpensThatComeTooFast) {
  const proto::Target to{.host = "169.254.169.254", .port = 80};  // denied, at no cost
  for (uint32_t i = 0; i < kMuxOpenBurst + 10; ++i) {
    Say({.type = MuxType::kOpen, .stream = 2 * i + 1, .limit = 1000, .address = &to});
  }
  ASSERT_TRUE(RunUntil([&] { return tested_->streams() == 0; }));
  const std::vector<std::string> heard = Heard();
  EXPECT_EQ(heard.size(), kMuxOpenBurst + 10) << "each is answered";
  EXPECT_EQ(std::count_if(heard.begin(), heard.end(), [](const auto& words) { return words.ends_with("status=1"); }),
            10);
}

TEST_F(MuxServerRules, SessionsWithoutListenersSaySo) {
  Say({.type = MuxType::kOpen, .kind = MuxKind::kListen, .stream = 1, .address = &kNowhere});
  EXPECT_THAT(Heard(), ElementsAre("OPENED 1 status=2"));
}

}  // namespace
}  // namespace tunnel::net
