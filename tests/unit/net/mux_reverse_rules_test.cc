// What a client answers to streams that a server opens: the server is the test, on channels of its own.
#include <gmock/gmock.h>

#include <deque>

#include "mux_rules_fixture.h"
#include "net/mux_connect.h"
#include "net/reverse_forwards.h"

namespace tunnel::net {
namespace {

using namespace std::chrono_literals;
using proto::MuxFrame;
using proto::MuxKind;
using proto::MuxType;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::IsSupersetOf;

class MuxReverseRules : public MuxRulesTest {
 protected:
  MuxReverseRules() : MuxRulesTest(proto::Role::kServer) {
    tested_ = std::make_unique<MuxClientSession>(reactor(), tested_budget_);
    forwards_ = std::make_unique<ReverseForwards>(reactor(), *tested_, resolver_, relays_, scope_);
    AddChannel();
  }
  ~MuxReverseRules() override {
    channels_.clear();
    scope_.Cancel();
    EXPECT_TRUE(RunUntil([&] { return scope_.empty(); }));
    forwards_.reset();
    tested_.reset();
    EXPECT_EQ(tested_budget_.windows(), 0U);
    Settle();
  }

  MuxSession& tested() override { return *tested_; }

  // Waits until the client has said so on the channel; what else it said is lost.
  [[nodiscard]] bool Hears(const std::string& words, size_t channel = 0) {
    std::vector<std::string> all;
    return RunUntil([&] {
      for (std::string& heard : Heard(channel)) all.push_back(std::move(heard));
      return std::find(all.begin(), all.end(), words) != all.end();
    });
  }
  // Asks for a listener there; its stream's id is odd, from 1 on.
  void Forward(uint16_t listen) {
    auto& spec = specs_.emplace_back();
    spec.kind = ListenKind::kReverse;
    spec.address = *core::SocketAddress::Parse("127.0.0.1", listen);
    spec.target = {.host = "127.0.0.1", .port = port()};
    spec.description = "rtcp://127.0.0.1";
    forwards_->Add(spec);
    forwards_->OnChannelsChanged(false);
    Settle();
  }
  void Listening(uint32_t stream) { Say({.type = MuxType::kOpened, .stream = stream, .address = &at_}); }
  void Open(uint32_t stream, std::string_view first = {}, size_t channel = 0) {
    Say({.type = MuxType::kOpen, .stream = stream, .limit = kMuxFirstWindowBytes, .address = &at_}, first, channel);
  }

  const proto::Target at_{.host = "127.0.0.1", .port = 8022};
  std::unique_ptr<MuxClientSession> tested_;
  std::deque<ListenSpec> specs_;
  std::unique_ptr<ReverseForwards> forwards_;
};

TEST_F(MuxReverseRules, TakesNoStreamThatNothingAskedFor) {
  Open(2, "first");
  EXPECT_THAT(Heard(), ElementsAre("OPENED 2 status=2"));
  Forward(8022);
  EXPECT_THAT(Heard(), ElementsAre("OPEN 1"));
  Listening(1);
  const proto::Target other{.host = "127.0.0.1", .port = 8023};
  Say({.type = MuxType::kOpen, .stream = 4, .limit = 1000, .address = &other});
  Say({.type = MuxType::kOpen, .kind = MuxKind::kUdp, .stream = 6, .address = &Nowhere()});
  EXPECT_THAT(Heard(), ElementsAre("OPENED 4 status=2", "OPENED 6 status=2"));
  forwards_->Stop();
  Open(8);
  EXPECT_THAT(Heard(), ElementsAre("RESET 1 code=0", "OPENED 8 status=2"));
  EXPECT_EQ(tested_->streams(), 0U);
  EXPECT_EQ(targets_.size(), 0U);
}

TEST_F(MuxReverseRules, ConnectsWithTheFirstBytes) {
  Forward(8022);
  Listening(1);
  Open(2, "first");
  Say({.type = MuxType::kData, .stream = 2}, " second");
  ASSERT_TRUE(RunUntil([&] { return targets_.size() == 1 && targets_[0]->seen.received == "first second"; }));
  EXPECT_TRUE(Hears("OPENED 2 status=0"));
}

TEST_F(MuxReverseRules, ServersOpenEvenIdsAndNoListeners) {
  Open(2);
  (void)Heard();
  // The codec refuses both: an odd id ends the channel, and so does a listener.
  const std::string odd = Encoded(proto::Role::kServer, {.type = MuxType::kOpen, .stream = 2, .address = &at_});
  std::string wrong = odd;
  wrong[7] = 3;
  channels_[0]->peer->SayBinary(wrong);
  Settle();
  EXPECT_FALSE(channels_[0]->mux->up());
  AddChannel();
  wrong = odd;
  wrong[8] = 3;  // kind
  channels_[1]->peer->SayBinary(wrong);
  Settle();
  EXPECT_FALSE(channels_[1]->mux->up());
}

TEST_F(MuxReverseRules, AnOpenThatOvertakesTheAnswerWaits) {
  AddChannel();
  Forward(0);
  const size_t asked = Heard(0).empty() ? 1 : 0;
  Open(2, "early", 1 - asked);
  EXPECT_THAT(Heard(1 - asked), IsEmpty());
  Say({.type = MuxType::kOpened, .stream = 1, .address = &at_}, {}, asked);
  ASSERT_TRUE(RunUntil([&] { return targets_.size() == 1 && targets_[0]->seen.received == "early"; }));
  EXPECT_TRUE(Hears("OPENED 2 status=0", 1 - asked));
}

TEST_F(MuxReverseRules, AnOpenThatOvertakesARefusalIsRefused) {
  Forward(0);
  (void)Heard();
  Open(2, "early");
  EXPECT_THAT(Heard(), IsEmpty());
  Say({.type = MuxType::kOpened, .status = 2, .stream = 1, .address = &Nowhere()});
  EXPECT_THAT(Heard(), ElementsAre("OPENED 2 status=2"));
  EXPECT_EQ(tested_->streams(), 0U);
}

TEST_F(MuxReverseRules, AnOpenAgainIsAnsweredWithResume) {
  Forward(8022);
  Listening(1);
  AddChannel();
  Open(2, "first");
  ASSERT_TRUE(RunUntil([&] { return targets_.size() == 1 && targets_[0]->seen.received == "first"; }));
  ASSERT_TRUE(Hears("OPENED 2 status=0"));
  (void)Heard(1);
  Open(2, "first", 1);
  std::vector<std::string> heard = Heard(0);
  for (std::string& words : Heard(1)) heard.push_back(std::move(words));
  EXPECT_THAT(heard, IsSupersetOf({"RESUME 2 generation=1 received=5", "OPENED 2 status=0"}));
  EXPECT_EQ(targets_.size(), 1U);
  EXPECT_EQ(targets_[0]->seen.received, "first");
}

TEST_F(MuxReverseRules, AnOpenThatComesLateConnectsNothing) {
  Forward(8022);
  Listening(1);
  Open(2, "first");
  ASSERT_TRUE(Hears("OPENED 2 status=0"));
  Say({.type = MuxType::kReset, .stream = 2});
  (void)Heard();
  Open(2, "first");
  EXPECT_THAT(Heard(), ElementsAre("RESET 2 code=3"));
  // What was refused, too.
  const proto::Target other{.host = "127.0.0.1", .port = 8023};
  Say({.type = MuxType::kOpen, .stream = 4, .limit = 1000, .address = &other});
  Say({.type = MuxType::kOpen, .stream = 4, .limit = 1000, .address = &other});
  EXPECT_THAT(Heard(), ElementsAre("OPENED 4 status=2", "RESET 4 code=3"));
  for (int i = 0; i < 20; ++i) Settle();
  EXPECT_EQ(targets_.size(), 1U);
}

TEST_F(MuxReverseRules, TheSameIdOfAnotherEpochIsAnotherStream) {
  Forward(8022);
  Listening(1);
  Open(2);
  ASSERT_TRUE(RunUntil([&] { return targets_.size() == 1; }));
  ASSERT_TRUE(Hears("OPENED 2 status=0"));
  AddChannel(8);
  Open(2, "another", 1);
  EXPECT_THAT(Heard(1), ElementsAre("RESET 2 code=4"));
  Say({.type = MuxType::kReset, .stream = 2}, {}, 1);
  Say({.type = MuxType::kData, .stream = 2}, "mine");
  EXPECT_TRUE(RunUntil([&] { return targets_[0]->seen.received == "mine"; })) << "it lives";
}

TEST_F(MuxReverseRules, ABusyClientRefuses) {
  Forward(8022);
  Listening(1);
  (void)Heard();
  tested_budget_.Hold(kMuxHeldBudgetBytes);
  Open(2);
  EXPECT_THAT(Heard(), ElementsAre("OPENED 2 status=1"));
  tested_budget_.LetGo(kMuxHeldBudgetBytes);
  Open(4);
  EXPECT_TRUE(Hears("OPENED 4 status=0"));
}

}  // namespace
}  // namespace tunnel::net
