// Every rule of docs/wire-native.md that a server can break: what it gets from the client, and that no other session
// notices.
#include <gmock/gmock.h>

#include "mux_rules_fixture.h"

namespace tunnel::net {
namespace {

using proto::MuxFrame;
using proto::MuxType;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// A client's session whose server is the test, on channels of its own, beside another session that has nothing to do
// with it.
class MuxClientRules : public MuxRulesTest {
 protected:
  // A stream that the client has opened.
  struct Stream {
    Opened result;
    std::unique_ptr<ByteStream> handle;
    StreamRecorder seen;
  };

  MuxClientRules() : MuxRulesTest(proto::Role::kServer) {
    AddLink();
    beside_ = OpenStream(bystander_);
    EXPECT_TRUE(RunUntil([&] { return targets_.size() == 1; }));
    tested_ = std::make_unique<MuxClientSession>(reactor(), tested_budget_);
    AddChannel();
  }
  ~MuxClientRules() override {
    // The session beside it goes on.
    beside_->Send(Bytes("still here"));
    EXPECT_TRUE(RunUntil([&] { return targets_[0]->seen.received == "still here"; }));
    beside_.reset();
    streams_.clear();
    channels_.clear();
    opens_.Cancel();
    EXPECT_TRUE(RunUntil([&] { return opens_.empty(); }));
    tested_.reset();
    EXPECT_EQ(tested_budget_.windows(), 0U);
    EXPECT_EQ(tested_budget_.held(), 0U);
  }

  MuxSession& tested() override { return *tested_; }

  // Opens a stream; its OPEN is said, and nothing has been answered.
  Stream& Begin(uint32_t id, std::string_view first = {}) {
    streams_.push_back(std::make_unique<Stream>());
    Stream& stream = *streams_.back();
    MuxChannel* channel = tested_->Choose();
    EXPECT_NE(channel, nullptr);
    opens_.Spawn(StoreResult(
        tested_->Open(*channel, {.host = "target.test", .port = 80}, first.empty() ? core::Slice() : Bytes(first)),
        &stream.result));
    EXPECT_THAT(Heard(),
                ElementsAre(first.empty() ? fmt::format("OPEN {}", id) : fmt::format("OPEN {} {}", id, first)));
    return stream;
  }
  // The same, answered, and `sent` sent.
  Stream& Open(uint32_t id, std::string_view sent = {}) {
    Stream& stream = Begin(id);
    Say({.type = MuxType::kOpened, .stream = id, .limit = 1000, .address = &kSomewhere});
    EXPECT_TRUE(RunUntil([&] { return stream.result.has_value(); }));
    EXPECT_TRUE(stream.result->ok()) << stream.result->status();
    stream.handle = **std::move(stream.result);
    stream.handle->SetHandler(&stream.seen);
    if (!sent.empty()) {
      stream.handle->Send(Bytes(sent));
      EXPECT_THAT(Heard(), ElementsAre(fmt::format("DATA {} {}", id, sent)));
    }
    return stream;
  }
  void ExpectReset(uint32_t id, int code, Stream& stream) {
    std::vector<std::string> resets;
    for (const std::string& words : Heard()) {
      if (words.starts_with("RESET")) resets.push_back(words);
    }
    EXPECT_THAT(resets, ElementsAre(fmt::format("RESET {} code={}", id, code)));
    EXPECT_EQ(tested_->Find(id), nullptr);
    EXPECT_TRUE(RunUntil([&] { return stream.seen.dead.has_value(); }));
    EXPECT_FALSE(stream.seen.dead->ok());
    EXPECT_TRUE(channels_[0]->mux->up());
  }

  const proto::Target kSomewhere{.host = "127.0.0.1", .port = 9};
  std::unique_ptr<MuxClientSession> tested_;
  std::vector<std::unique_ptr<Stream>> streams_;
  StreamRecorder bystander_;
  std::unique_ptr<ByteStream> beside_;
};

TEST_F(MuxClientRules, WhatIsNoFrameEndsTheChannel) {
  const int64_t before = reactor().counters().protocol_errors.Get();
  const std::vector<std::string> broken = {
      std::string("short"),
      std::string("\x03\0\x01\0\0\0\0\x01x", 9),                            // reserved bytes
      std::string("\x01\0\0\0\0\0\0\x01\x01\0\0\0\0\0\0\0\0\0\0\0\x01\x01"  // OPEN of a client's id
                  "\x7f\0\0\x01\0\x50",
                  28),
      std::string("\x02\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0", 24),  // OPENED of its own
      std::string("\x09\0\0\0\0\0\0\x01\0\0\0\x01\0\0\0\0\0\0\0\0"                // RESUME
                  "\0\0\0\0\0\0\0\0",
                  28),
  };
  for (const std::string& bytes : broken) {
    SCOPED_TRACE(bytes);
    AddChannel();
    SayBytes(bytes, channels_.size() - 1);
    const Channel& channel = *channels_.back();
    ASSERT_TRUE(channel.peer->down.has_value());
    EXPECT_THAT(std::string(MessageOf(*channel.peer->down)), HasSubstr("1002"));
    EXPECT_FALSE(channel.mux->up());
  }
  EXPECT_EQ(reactor().counters().protocol_errors.Get() - before, static_cast<int64_t>(broken.size()));
  EXPECT_TRUE(channels_[0]->mux->up());
}

TEST_F(MuxClientRules, BytesBeyondTheLimitResetTheStream) {
  Stream& stream = Open(1);
  stream.handle->PauseReceive();
  const std::string piece(60'000, 'x');
  for (size_t said = 0; said <= kMuxFirstWindowBytes; said += piece.size()) {
    Say({.type = MuxType::kData, .stream = 1}, piece);
  }
  stream.handle->ResumeReceive();
  ExpectReset(1, 1, stream);
}

TEST_F(MuxClientRules, WhatDoesNotFitAStreamResetsIt) {
  struct Case {
    const char* what;
    std::vector<std::pair<MuxFrame, std::string>> frames;
  };
  const std::vector<Case> cases = {
      {"bytes behind FIN", {{{.type = MuxType::kData, .fin = true}, "end"}, {{.type = MuxType::kData}, "more"}}},
      {"a second FIN", {{{.type = MuxType::kData, .fin = true}, "end"}, {{.type = MuxType::kData, .fin = true}, ""}}},
      {"consumed beyond what was sent", {{{.type = MuxType::kCredit, .offset = 4, .limit = 4}, ""}}},
      {"consumed goes back",
       {{{.type = MuxType::kCredit, .offset = 2, .limit = 10}, ""},
        {{.type = MuxType::kCredit, .offset = 1, .limit = 10}, ""}}},
      {"FIN that was not sent", {{{.type = MuxType::kCredit, .fin = true, .offset = 3, .limit = 10}, ""}}},
      {"a datagram on a stream of bytes", {{{.type = MuxType::kDatagram, .address = &kSomewhere}, "x"}}},
  };
  uint32_t id = 1;
  for (const Case& tested : cases) {
    SCOPED_TRACE(tested.what);
    Stream& stream = Open(id, "abc");
    for (auto [frame, payload] : tested.frames) {
      frame.stream = id;
      Say(frame, payload);
    }
    ExpectReset(id, 5, stream);
    id += 2;
  }
}

TEST_F(MuxClientRules, IgnoresWhatIsToBeIgnored) {
  Stream& stream = Open(1, "abc");
  Say({.type = MuxType::kPad}, "anything");
  SayBytes(std::string("\x80\x7f\0\0\xff\xff\xff\xff", 8) + "of a later version");
  Say({.type = MuxType::kPong, .opaque = std::array<uint8_t, 8>{}});
  Say({.type = MuxType::kData, .stream = 9}, "nobody");
  Say({.type = MuxType::kCredit, .stream = 9});
  Say({.type = MuxType::kReset, .stream = 9});
  Say({.type = MuxType::kDatagram, .stream = 9, .address = &kSomewhere}, "x");
  Say({.type = MuxType::kOpened, .stream = 9, .limit = 1, .address = &kSomewhere});
  Say({.type = MuxType::kOpened, .status = 5, .stream = 1, .address = &kSomewhere});
  Say({.type = MuxType::kResumed, .stream = 1, .generation = 0, .offset = 0, .limit = 1000});
  Say({.type = MuxType::kResumed, .stream = 9, .generation = 1, .offset = 0, .limit = 1000});
  EXPECT_THAT(Heard(), IsEmpty());
  Say({.type = MuxType::kData, .stream = 1}, "fine");
  EXPECT_TRUE(RunUntil([&] { return stream.seen.received == "fine"; }));
}

TEST_F(MuxClientRules, RefusalsAndResetsSayWhy) {
  Stream& refused = Begin(1);
  Say({.type = MuxType::kOpened, .status = 5, .stream = 1, .address = &kSomewhere});
  ASSERT_TRUE(RunUntil([&] { return refused.result.has_value(); }));
  EXPECT_THAT(std::string(MessageOf(refused.result->status())), HasSubstr("refused"));
  Stream& unknown = Open(3);
  Say({.type = MuxType::kReset, .stream = 3, .code = 3, .reason = "never heard of it"});
  ASSERT_TRUE(RunUntil([&] { return unknown.seen.dead.has_value(); }));
  EXPECT_THAT(std::string(MessageOf(*unknown.seen.dead)), HasSubstr("never heard of it"));
  EXPECT_THAT(Heard(), IsEmpty()) << "a RESET is not answered";
  EXPECT_EQ(tested_->streams(), 0U);
}

TEST_F(MuxClientRules, SendsNoFurtherThanTheLimit) {
  Stream& stream = Open(1);
  stream.handle->Send(Bytes(std::string(1500, 'x')));
  // The window of the negotiation, which OPENED does not take back.
  EXPECT_THAT(Heard(), ElementsAre("DATA 1 " + std::string(1500, 'x')));
  for (size_t given = 0; given < kMuxFirstWindowBytes; given += 1024) {
    stream.handle->Send(Bytes(std::string(1024, 'y')));
  }
  size_t sent = 1500;
  for (const std::string& words : Heard()) sent += words.size() - std::string_view("DATA 1 ").size();
  EXPECT_EQ(sent, kMuxFirstWindowBytes);
  Say({.type = MuxType::kCredit, .stream = 1, .offset = 1000, .limit = kMuxFirstWindowBytes + 1500});
  EXPECT_THAT(Heard(), ElementsAre("DATA 1 " + std::string(1500, 'y')));
}

TEST_F(MuxClientRules, TakesNothingBeforeRESUMEDOfItsGeneration) {
  Stream& stream = Open(1, "0123456789");
  Say({.type = MuxType::kData, .stream = 1}, "abc");
  AddChannel();
  (void)Heard(1);
  channels_[0]->peer->Destroy();
  EXPECT_THAT(Heard(1), testing::Contains("RESUME 1 generation=1 received=3"));
  Say({.type = MuxType::kData, .stream = 1}, "of an earlier time", 1);
  Say({.type = MuxType::kCredit, .stream = 1, .offset = 99, .limit = 99}, {}, 1);
  Say({.type = MuxType::kResumed, .stream = 1, .generation = 9, .offset = 0, .limit = 1000}, {}, 1);
  Say({.type = MuxType::kResumed, .stream = 1, .generation = 1, .offset = 4, .limit = kMuxFirstWindowBytes}, {}, 1);
  EXPECT_THAT(Heard(1), ElementsAre("DATA 1 456789"));
  Say({.type = MuxType::kData, .stream = 1}, "def", 1);
  EXPECT_TRUE(RunUntil([&] { return stream.seen.received == "abcdef"; }));
}

TEST_F(MuxClientRules, ResumedBeyondWhatWasSentResetsTheStream) {
  Stream& stream = Open(1, "0123456789");
  AddChannel();
  (void)Heard(1);
  channels_[0]->peer->Destroy();
  (void)Heard(1);
  Say({.type = MuxType::kResumed, .stream = 1, .generation = 1, .offset = 11, .limit = 1000}, {}, 1);
  EXPECT_THAT(Heard(1), ElementsAre("RESET 1 code=5"));
  EXPECT_TRUE(RunUntil([&] { return stream.seen.dead.has_value(); }));
}

TEST_F(MuxClientRules, LeavesAChannelThatSaysGoAway) {
  Open(1, "abc");
  AddChannel();
  (void)Heard(1);
  Say({.type = MuxType::kGoAway, .code = 1});
  EXPECT_THAT(Heard(1), testing::Contains("RESUME 1 generation=1 received=0"));
  EXPECT_FALSE(channels_[0]->mux->usable());
  EXPECT_TRUE(channels_[0]->mux->up()) << "until it is closed everything goes on";
  Say({.type = MuxType::kGoAway, .code = 1});
  EXPECT_TRUE(channels_[0]->mux->up());
}

}  // namespace
}  // namespace tunnel::net
