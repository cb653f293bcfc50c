// mux/2 sessions, client and server, over channels that come and go.
#include <gmock/gmock.h>

#include <random>

#include "mux_fixture.h"

namespace tunnel::net {
namespace {

using namespace std::chrono_literals;

std::string Text(size_t size, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::string text(size, '\0');
  for (char& c : text) c = static_cast<char>(random());
  return text;
}

TEST_F(MuxPairTest, CarriesBytesBothWays) {
  AddLink();
  StreamRecorder seen;
  auto stream = OpenStream(seen, "first ");
  stream->Send(Bytes("second"));
  ASSERT_TRUE(RunUntil([&] { return targets_.size() == 1 && targets_[0]->seen.received == "first second"; }));
  targets_[0]->stream->Send(Bytes("answer"));
  ASSERT_TRUE(RunUntil([&] { return seen.received == "answer"; }));
  // Each side's end comes through by itself.
  stream->FinishSend();
  ASSERT_TRUE(RunUntil([&] { return targets_[0]->seen.ends == 1; }));
  targets_[0]->stream->Send(Bytes(" and more"));
  targets_[0]->stream->FinishSend();
  ASSERT_TRUE(RunUntil([&] { return seen.ends == 1; }));
  EXPECT_EQ(seen.received, "answer and more");
  Settle();
  EXPECT_EQ(client_->streams(), 0U);
  EXPECT_EQ(server_->streams(), 0U);
  EXPECT_EQ(relays_.size(), 0U);
}

TEST_F(MuxPairTest, GoesOnOnAnotherChannel) {
  AddLink();
  AddLink();
  StreamRecorder seen;
  auto stream = OpenStream(seen);
  ASSERT_TRUE(RunUntil([&] { return targets_.size() == 1; }));
  const std::string up = Text(3'000'000, 1);
  const std::string down = Text(3'000'000, 2);
  SendAll(*stream, up);
  SendAll(*targets_[0]->stream, down);
  for (int i = 0; i < 6; ++i) {
    Settle();
    Link& victim = *links_[static_cast<size_t>(i) % links_.size()];
    victim.near->Meter(3);
    victim.far->Meter(2);
    Settle();
    Cut(victim);
    AddLink(1000);
  }
  ASSERT_TRUE(
      RunUntil([&] { return targets_[0]->seen.received.size() == up.size() && seen.received.size() == down.size(); }));
  EXPECT_TRUE(targets_[0]->seen.received == up);
  EXPECT_TRUE(seen.received == down);
  EXPECT_GT(reactor().counters().streams_moved.Get(), 0);
}

TEST_F(MuxPairTest, WaitsForAChannelAndThenGivesUp) {
  AddLink();
  StreamRecorder seen;
  auto stream = OpenStream(seen);
  ASSERT_TRUE(RunUntil([&] { return targets_.size() == 1; }));
  Cut(*links_[0]);
  stream->Send(Bytes("sent without a channel"));
  RunFor(20s);
  EXPECT_FALSE(seen.dead.has_value());
  AddLink();
  ASSERT_TRUE(RunUntil([&] { return targets_[0]->seen.received == "sent without a channel"; }));
  Cut(*links_[0]);
  RunFor(32s);
  ASSERT_TRUE(seen.dead.has_value());
  EXPECT_FALSE(seen.dead->ok());
  ASSERT_TRUE(RunUntil([&] { return targets_[0]->seen.dead.has_value(); })) << "the target is told, too";
  EXPECT_FALSE(targets_[0]->seen.dead->ok()) << "and can tell it from an orderly end";
  EXPECT_EQ(server_->streams(), 0U);
}

TEST_F(MuxPairTest, OpensAgainWhatWasNotAnswered) {
  AddLink();
  AddLink();
  resolver_.hold = true;
  Opened result;
  const std::string first = Text(20'000, 3);
  Open(result, first);
  Settle();
  ASSERT_EQ(resolver_.questions.size(), 1U);
  MuxChannel* on = links_[0]->client->streams() > 0 ? links_[0]->client.get() : links_[1]->client.get();
  Cut(on == links_[0]->client.get() ? *links_[0] : *links_[1]);
  resolver_.released.Set();
  ASSERT_TRUE(RunUntil([&] { return result.has_value() && targets_.size() == 1; }));
  EXPECT_TRUE(result->ok()) << result->status();
  ASSERT_TRUE(RunUntil([&] { return targets_[0]->seen.received.size() == first.size(); }));
  EXPECT_TRUE(targets_[0]->seen.received == first) << "once, and in order";
  EXPECT_EQ(resolver_.questions.size(), 1U) << "the target was connected once";
}

TEST_F(MuxPairTest, SaysWhyATargetCannotBeReached) {
  AddLink();
  Opened refused;
  Opened denied;
  Opened unknown;
  uint16_t closed = 0;
  {
    auto listener = core::Listener::Open(reactor(), *core::SocketAddress::Parse("127.0.0.1", 0), false, {});
    closed = listener->local_address().port();
  }
  Settle();
  Open(refused, "", "127.0.0.1", closed);
  Open(denied, "", "169.254.169.254", 80);
  Open(unknown, "", "nowhere.test", 80);
  ASSERT_TRUE(RunUntil([&] { return refused && denied && unknown; }));
  EXPECT_EQ(core::IoErrorOf(refused->status()), core::IoError::kRefused) << refused->status();
  EXPECT_TRUE(absl::IsPermissionDenied(denied->status())) << denied->status();
  EXPECT_EQ(core::IoErrorOf(unknown->status()), core::IoError::kUnreachable) << unknown->status();
  EXPECT_EQ(client_->streams(), 0U);
  EXPECT_EQ(server_->streams(), 0U);
}

TEST_F(MuxPairTest, AStalledReaderCostsItsWindowAndDelaysNobody) {
  AddLink();
  StreamRecorder stalled_seen;
  StreamRecorder other_seen;
  auto stalled = OpenStream(stalled_seen);
  auto other = OpenStream(other_seen);
  ASSERT_TRUE(RunUntil([&] { return targets_.size() == 2; }));
  stalled->PauseReceive();
  const std::string much = Text(4'000'000, 4);
  SendAll(*targets_[0]->stream, much);
  for (int i = 0; i < 200; ++i) Settle();
  EXPECT_LE(client_budget_.held(), kMuxFirstWindowBytes) << "no more than was allowed";
  targets_[1]->stream->Send(Bytes("quick"));
  ASSERT_TRUE(RunUntil([&] { return other_seen.received == "quick"; }));
  stalled->ResumeReceive();
  ASSERT_TRUE(RunUntil([&] { return stalled_seen.received.size() == much.size(); }));
  EXPECT_TRUE(stalled_seen.received == much);
}

TEST_F(MuxPairTest, FindsAFrozenChannel) {
  AddLink();
  AddLink();
  RunFor(1s);
  StreamRecorder seen;
  auto stream = OpenStream(seen);
  ASSERT_TRUE(RunUntil([&] { return targets_.size() == 1; }));
  Link& frozen = links_[0]->client->streams() > 0 ? *links_[0] : *links_[1];
  frozen.near->Meter(0);
  frozen.far->Meter(0);
  stream->Send(Bytes("into the ice"));
  RunFor(4s);
  ASSERT_TRUE(RunUntil([&] { return targets_[0]->seen.received == "into the ice"; }));
  EXPECT_TRUE(frozen.client_down.has_value());
  EXPECT_FALSE(seen.dead.has_value());
}

TEST_F(MuxPairTest, MissesTheAnswerToAnOpenThoughSomethingElseCame) {
  AddLink();
  RunFor(1s);
  StreamRecorder seen;
  auto stream = OpenStream(seen);
  ASSERT_TRUE(RunUntil([&] { return targets_.size() == 1; }));
  Link& frozen = *links_[0];
  frozen.far->Meter(0);
  Opened second;
  Open(second, "first bytes");
  Settle();
  targets_[0]->stream->Send(Bytes("a sign of life"));
  ASSERT_TRUE(RunUntil([&] { return seen.received == "a sign of life"; }));
  frozen.near->Meter(0);
  // Long before the next PING would have been missed, and so before an opening is given up.
  RunFor(kMuxDeadLimit + 3s);
  EXPECT_TRUE(frozen.client_down.has_value());
  AddLink();
  ASSERT_TRUE(RunUntil([&] { return second.has_value(); }));
  ASSERT_TRUE(second->ok()) << second->status();
  EXPECT_FALSE(seen.dead.has_value());
}

TEST_F(MuxPairTest, AnotherProcessOfTheServerCannotGoOn) {
  AddLink();
  StreamRecorder seen;
  auto stream = OpenStream(seen);
  Cut(*links_[0]);
  NewServer(2);
  AddLink();
  RunFor(5s);
  EXPECT_FALSE(seen.dead.has_value()) << "the old one may come back";
  StreamRecorder fresh_seen;
  auto fresh = OpenStream(fresh_seen, "hello");
  ASSERT_TRUE(RunUntil([&] { return targets_.size() == 2 && targets_[1]->seen.received == "hello"; }));
  RunFor(27s);
  EXPECT_TRUE(seen.dead.has_value());
  EXPECT_FALSE(fresh_seen.dead.has_value());
}

// Streams that echo, over channels that are cut at random: every byte comes back once and in order.
class MuxRandom : public MuxPairTest, public testing::WithParamInterface<uint64_t> {
 protected:
  struct App {
    Opened opened;
    std::unique_ptr<ByteStream> stream;
    StreamRecorder seen;
    std::string text;
    size_t sent = 0;
    bool asked = false;
    bool finished = false;
  };
};

TEST_P(MuxRandom, EchoesThroughCuts) {
  std::mt19937_64 random(GetParam());
  const auto below = [&random](uint64_t limit) { return random() % limit; };
  on_target_ = [this](Target& target) {
    auto echoed = std::make_shared<size_t>(0);
    target.seen.on_data = [this, &target, echoed] {
      const std::string_view fresh = std::string_view(target.seen.received).substr(*echoed);
      *echoed += fresh.size();
      SendAll(*target.stream, fresh);
      if (!target.stream->writable()) target.stream->PauseReceive();
    };
    target.seen.on_drained = [&target] { target.stream->ResumeReceive(); };
    target.seen.on_end = [&target] { target.stream->FinishSend(); };
  };
  std::vector<std::unique_ptr<App>> apps;
  const size_t streams = 1 + below(12);
  AddLink(1 + below(3000));
  AddLink(1 + below(30'000));
  for (size_t i = 0; i < streams; ++i) {
    apps.push_back(std::make_unique<App>());
    apps.back()->text = Text(below(2) == 0 ? below(500) : below(700'000), random());
  }
  size_t cuts = 0;
  const auto done = [&] {
    return std::all_of(apps.begin(), apps.end(), [](const auto& app) {
      return app->stream != nullptr && app->seen.received.size() == app->text.size() && app->seen.ends == 1;
    });
  };
  const auto give_up = std::chrono::steady_clock::now() + 60s;
  while (!done()) {
    ASSERT_LT(std::chrono::steady_clock::now(), give_up) << "seed " << GetParam();
    for (const auto& link : links_) {
      if (link->client_down || link->server_down) continue;
      link->near->Meter(below(6));
      link->far->Meter(below(6));
    }
    if (cuts < 40 && !links_.empty() && below(30) == 0) {
      ++cuts;
      Cut(*links_[below(links_.size())]);
    }
    // Channels that gave up by themselves.
    for (size_t i = links_.size(); i-- > 0;) {
      if (links_[i]->client_down || links_[i]->server_down) Cut(*links_[i]);
    }
    if (links_.size() < 3 && (below(20) == 0 || cuts >= 40)) AddLink(1 + below(20'000));
    for (const auto& held : apps) {
      App& app = *held;
      ASSERT_FALSE(app.seen.dead.has_value() && !app.seen.dead->ok())
          << "seed " << GetParam() << ": " << *app.seen.dead;
      if (app.opened.has_value()) {
        ASSERT_TRUE(app.opened->ok()) << app.opened->status();
        app.stream = **std::move(app.opened);
        app.opened.reset();
        app.stream->SetHandler(&app.seen);
      }
      if (app.stream == nullptr) {
        if (!app.asked && client_->Choose() != nullptr) {
          app.asked = true;
          Open(app.opened);
        }
        continue;
      }
      if (app.finished || !app.stream->writable()) continue;
      const size_t size = std::min<size_t>(app.text.size() - app.sent, 1 + below(60'000));
      if (size > 0) app.stream->Send(Bytes(std::string_view(app.text).substr(app.sent, size)));
      app.sent += size;
      if (app.sent == app.text.size()) {
        app.finished = true;
        app.stream->FinishSend();
      }
    }
    reactor().Turn(reactor().backend().Now());
    if (below(4) == 0) backend().Advance(std::chrono::milliseconds(below(40)));
  }
  for (const auto& app : apps) EXPECT_TRUE(app->seen.received == app->text) << "seed " << GetParam();
  apps.clear();
  RunFor(31s);
  EXPECT_EQ(client_->streams(), 0U);
  EXPECT_EQ(server_->streams(), 0U);
  EXPECT_EQ(server_budget_.held(), 0U);
}

INSTANTIATE_TEST_SUITE_P(Seeds, MuxRandom, testing::Range<uint64_t>(1, 41));

}  // namespace
}  // namespace tunnel::net
