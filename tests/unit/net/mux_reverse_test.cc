// Reverse forwards, both ends: the server listens for its client, and opens streams towards it.
#include <gmock/gmock.h>

#include <deque>

#include "core/stream_socket.h"
#include "mux_fixture.h"
#include "net/reverse_forwards.h"

namespace tunnel::net {
namespace {

using namespace std::chrono_literals;

// The targets of the fixture are those of the client here.
class MuxReverse : public MuxPairTest {
 protected:
  struct Visitor {
    std::unique_ptr<TcpStream> stream;
    StreamRecorder seen;
  };

  MuxReverse() {
    allow_reverse_ = {{.kind = TargetRule::Kind::kNetwork, .network = *proto::ParseCidr("127.0.0.0/8"), .name = {}}};
    forwards_ = std::make_unique<ReverseForwards>(reactor(), *client_, resolver_, relays_, scope_);
  }
  ~MuxReverse() override {
    visitors_.clear();
    scope_.Cancel();
    EXPECT_TRUE(RunUntil([&] { return scope_.empty(); }));
    forwards_.reset();
    Settle();
  }

  // Asks for a listener on a port that is free, or on that one; returns the port.
  uint16_t Forward(uint16_t listen = 0, const std::string& target = "127.0.0.1") {
    auto& spec = specs_.emplace_back();
    spec.kind = ListenKind::kReverse;
    const auto any = *core::SocketAddress::Parse("127.0.0.1", listen);
    spec.address = listen == 0 ? *core::Listener::Probe(reactor(), any) : any;
    spec.target = {.host = target, .port = port()};
    spec.description = "rtcp://" + spec.address.ToString();
    forwards_->Add(spec);
    return spec.address.port();
  }
  // A channel, and what follows from it.
  Link& Channel(size_t piece = SIZE_MAX) {
    Link& link = AddLink(piece);
    Tell();
    return link;
  }
  void Tell() {
    forwards_->OnChannelsChanged(false);
    Settle();
  }
  void CutAndTell(Link& link) {
    Cut(link);
    Tell();
  }
  // Somebody connects to the server's listener; nullptr when nobody is there.
  Visitor* Visit(uint16_t listening) {
    auto socket = RunTask(reactor(), core::Connect(reactor(), *core::SocketAddress::Parse("127.0.0.1", listening)));
    if (!socket.ok()) return nullptr;
    Visitor& visitor = *visitors_.emplace_back(std::make_unique<Visitor>());
    visitor.stream = std::make_unique<TcpStream>(*std::move(socket));
    visitor.stream->SetHandler(&visitor.seen);
    return &visitor;
  }
  [[nodiscard]] bool Listens(uint16_t listening) {
    auto socket = RunTask(reactor(), core::Connect(reactor(), *core::SocketAddress::Parse("127.0.0.1", listening)));
    return socket.ok();
  }
  std::deque<ListenSpec> specs_;
  std::unique_ptr<ReverseForwards> forwards_;
  std::vector<std::unique_ptr<Visitor>> visitors_;
};

TEST_F(MuxReverse, CarriesBytesBothWays) {
  const uint16_t listening = Forward();
  Channel();
  Visitor* visitor = Visit(listening);
  ASSERT_NE(visitor, nullptr);
  visitor->stream->Send(Bytes("question"));
  ASSERT_TRUE(RunUntil([&] { return targets_.size() == 1 && targets_[0]->seen.received == "question"; }));
  targets_[0]->stream->Send(Bytes("answer"));
  targets_[0]->stream->FinishSend();
  ASSERT_TRUE(RunUntil([&] { return visitor->seen.received == "answer" && visitor->seen.ends == 1; }));
  visitor->stream->Send(Bytes(" and more"));
  visitor->stream->FinishSend();
  ASSERT_TRUE(RunUntil([&] { return targets_[0]->seen.ends == 1; }));
  EXPECT_EQ(targets_[0]->seen.received, "question and more");
  Settle();
  EXPECT_EQ(client_->streams(), 1U) << "the listener";
  EXPECT_EQ(server_->streams(), 1U);
}

TEST_F(MuxReverse, TheServerSaysWhereItListens) {
  auto& spec = specs_.emplace_back();
  spec.kind = ListenKind::kReverse;
  spec.address = *core::SocketAddress::Parse("127.0.0.1", 0);
  spec.target = {.host = "target.test", .port = port()};
  spec.description = "rtcp://127.0.0.1:0/target.test";
  forwards_->Add(spec);
  Channel();
  ASSERT_NE(client_->Find(1), nullptr);
  const proto::Target bound = client_->Find(1)->bound();
  EXPECT_EQ(bound.host, "127.0.0.1");
  Visitor* visitor = Visit(bound.port);
  ASSERT_NE(visitor, nullptr);
  visitor->stream->Send(Bytes("by name"));
  EXPECT_TRUE(RunUntil([&] { return targets_.size() == 1 && targets_[0]->seen.received == "by name"; }));
}

TEST_F(MuxReverse, ListensOnlyWhereItIsAllowed) {
  const auto rule = [](const char* network, uint16_t first, uint16_t last) {
    return TargetRule{.kind = TargetRule::Kind::kNetwork,
                      .network = *proto::ParseCidr(network),
                      .name = {},
                      .first_port = first,
                      .last_port = last};
  };
  const auto at = [](const char* ip, uint16_t to) { return *core::SocketAddress::Parse(ip, to); };
  const std::vector<TargetRule> rules = {rule("127.0.0.0/8", 8000, 9000), rule("fd00::/8", 1, 65535)};
  EXPECT_TRUE(AllowsReverse(rules, at("127.1.2.3", 8000)));
  EXPECT_TRUE(AllowsReverse(rules, at("::ffff:127.0.0.1", 9000)));
  EXPECT_TRUE(AllowsReverse(rules, at("fd00::1", 0)));
  EXPECT_FALSE(AllowsReverse(rules, at("127.0.0.1", 7999)));
  EXPECT_FALSE(AllowsReverse(rules, at("127.0.0.1", 9001)));
  EXPECT_FALSE(AllowsReverse(rules, at("127.0.0.1", 0))) << "the kernel would choose any";
  EXPECT_FALSE(AllowsReverse(rules, at("0.0.0.0", 8000)));
  EXPECT_FALSE(AllowsReverse(rules, at("::", 8000)));
  EXPECT_FALSE(AllowsReverse(rules, at("10.0.0.1", 8000)));
  EXPECT_FALSE(AllowsReverse(rules, *core::SocketAddress::Unix("/run/a.sock")));
  EXPECT_FALSE(AllowsReverse({}, at("127.0.0.1", 8000)));
  EXPECT_FALSE(AllowsReverse({TargetRule{}}, at("127.0.0.1", 8000))) << "not a network";

  allow_reverse_ = {};
  const uint16_t listening = Forward();
  Channel();
  EXPECT_FALSE(Listens(listening));
  EXPECT_EQ(client_->streams(), 0U);
  EXPECT_EQ(server_->streams(), 0U);
  // It goes on asking.
  allow_reverse_ = {rule("0.0.0.0/0", 1, 65535)};
  RunFor(2s);
  EXPECT_TRUE(Listens(listening));
}

TEST_F(MuxReverse, WaitsForAnAddressThatIsInUse) {
  auto other = core::Listener::Open(reactor(), *core::SocketAddress::Parse("127.0.0.1", 0), false,
                                    [](core::StreamSocket, const core::SocketAddress&) {});
  ASSERT_TRUE(other.ok());
  const uint16_t listening = Forward(other->local_address().port());
  Channel();
  EXPECT_EQ(server_->streams(), 0U);
  other->Close();
  RunFor(2s);
  EXPECT_EQ(server_->streams(), 1U);
  EXPECT_TRUE(Listens(listening));
}

TEST_F(MuxReverse, TheListenerEndsAndItsStreamsLiveOn) {
  const uint16_t listening = Forward();
  Channel();
  Visitor* visitor = Visit(listening);
  ASSERT_NE(visitor, nullptr);
  ASSERT_TRUE(RunUntil([&] { return targets_.size() == 1; }));
  forwards_->Stop();
  Settle();
  EXPECT_FALSE(Listens(listening));
  visitor->stream->Send(Bytes("still here"));
  EXPECT_TRUE(RunUntil([&] { return targets_[0]->seen.received == "still here"; }));
  EXPECT_EQ(server_->streams(), 1U);
}

TEST_F(MuxReverse, AServerThatStopsListensNoMore) {
  const uint16_t listening = Forward();
  Channel();
  Visitor* visitor = Visit(listening);
  ASSERT_NE(visitor, nullptr);
  ASSERT_TRUE(RunUntil([&] { return targets_.size() == 1; }));
  server_->StopListening();
  EXPECT_FALSE(Listens(listening));
  RunFor(5s);
  EXPECT_FALSE(Listens(listening)) << "and does not begin again";
  visitor->stream->Send(Bytes("still here"));
  EXPECT_TRUE(RunUntil([&] { return targets_[0]->seen.received == "still here"; }));
}

TEST_F(MuxReverse, GoesOnOnAnotherChannel) {
  const uint16_t listening = Forward();
  Channel();
  Channel();
  Visitor* visitor = Visit(listening);
  ASSERT_NE(visitor, nullptr);
  ASSERT_TRUE(RunUntil([&] { return targets_.size() == 1; }));
  const std::string up(2'000'000, 'u');
  const std::string down(2'000'000, 'd');
  SendAll(*visitor->stream, up);
  SendAll(*targets_[0]->stream, down);
  for (int i = 0; i < 4; ++i) {
    Settle();
    Link& victim = *links_[static_cast<size_t>(i) % links_.size()];
    victim.near->Meter(3);
    victim.far->Meter(2);
    Settle();
    CutAndTell(victim);
    Channel(1000);
  }
  ASSERT_TRUE(RunUntil(
      [&] { return targets_[0]->seen.received.size() == up.size() && visitor->seen.received.size() == down.size(); }));
  EXPECT_TRUE(targets_[0]->seen.received == up);
  EXPECT_TRUE(visitor->seen.received == down);
  EXPECT_TRUE(Listens(listening)) << "the listener has moved, too";
}

// Nothing of the OPEN, or of what was sent behind it, came to the client before the channel was lost.
TEST_F(MuxReverse, SaysOpenAgainWhereItWasLost) {
  const uint16_t listening = Forward();
  Channel();
  Channel();
  for (const auto& link : links_) link->near->Meter(0);  // from now on the client hears nothing
  Visitor* visitor = Visit(listening);
  ASSERT_NE(visitor, nullptr);
  visitor->stream->Send(Bytes("sent before it was answered"));
  ASSERT_TRUE(RunUntil([&] { return server_->streams() == 2; }));
  Settle();
  while (!links_.empty()) CutAndTell(*links_.front());
  EXPECT_EQ(targets_.size(), 0U);
  Channel();
  ASSERT_TRUE(RunUntil([&] { return targets_.size() == 1; }));
  EXPECT_TRUE(RunUntil([&] { return targets_[0]->seen.received == "sent before it was answered"; }));
  targets_[0]->stream->Send(Bytes("answer"));
  EXPECT_TRUE(RunUntil([&] { return visitor->seen.received == "answer"; }));
}

// The client has the stream, but its OPENED was lost: it resumes, and the target is connected once.
TEST_F(MuxReverse, SaysOpenAgainWhereTheAnswerWasLost) {
  const uint16_t listening = Forward();
  Channel();
  for (const auto& link : links_) link->far->Meter(0);  // from now on the server hears nothing
  Visitor* visitor = Visit(listening);
  ASSERT_NE(visitor, nullptr);
  visitor->stream->Send(Bytes("once"));
  ASSERT_TRUE(RunUntil([&] { return targets_.size() == 1 && targets_[0]->seen.received == "once"; }));
  CutAndTell(*links_.front());
  Channel();
  targets_[0]->stream->Send(Bytes("answer"));
  EXPECT_TRUE(RunUntil([&] { return visitor->seen.received == "answer"; }));
  visitor->stream->Send(Bytes(" and again"));
  EXPECT_TRUE(RunUntil([&] { return targets_[0]->seen.received == "once and again"; }));
  EXPECT_EQ(targets_.size(), 1U);
}

TEST_F(MuxReverse, ARefusalThatWasLostIsSaidAgain) {
  const uint16_t listening = Forward(0, "held.test");
  resolver_.names["held.test"] = {};
  resolver_.hold = true;
  Channel();
  Visitor* visitor = Visit(listening);
  ASSERT_NE(visitor, nullptr);
  visitor->stream->Send(Bytes("for nobody"));
  ASSERT_TRUE(RunUntil([&] { return resolver_.questions.size() == 1; }));
  CutAndTell(*links_.front());
  resolver_.released.Set();
  Settle();
  EXPECT_FALSE(visitor->seen.dead.has_value() || visitor->seen.ends > 0);
  Channel();
  EXPECT_TRUE(RunUntil([&] { return visitor->seen.dead.has_value() || visitor->seen.ends > 0; }));
  EXPECT_EQ(client_->streams(), 1U) << "the listener";
  EXPECT_EQ(server_->streams(), 1U);
  EXPECT_EQ(resolver_.questions.size(), 1U) << "and nothing is connected a second time";
}

TEST_F(MuxReverse, AVisitorOfATargetThatRefusesIsClosed) {
  uint16_t closed = core::Listener::Probe(reactor(), *core::SocketAddress::Parse("127.0.0.1", 0))->port();
  auto& spec = specs_.emplace_back();
  spec.kind = ListenKind::kReverse;
  spec.address = *core::Listener::Probe(reactor(), *core::SocketAddress::Parse("127.0.0.1", 0));
  spec.target = {.host = "127.0.0.1", .port = closed};
  forwards_->Add(spec);
  Channel();
  Visitor* visitor = Visit(spec.address.port());
  ASSERT_NE(visitor, nullptr);
  EXPECT_TRUE(RunUntil([&] { return visitor->seen.dead.has_value() || visitor->seen.ends > 0; }));
  EXPECT_EQ(server_->streams(), 1U);
}

TEST_F(MuxReverse, WaitsWithoutAChannelAndThenLetsGo) {
  const uint16_t listening = Forward();
  Channel();
  CutAndTell(*links_.front());
  // The kernel takes it, and nobody else.
  Visitor* visitor = Visit(listening);
  ASSERT_NE(visitor, nullptr);
  visitor->stream->Send(Bytes("patience"));
  RunFor(1s);
  EXPECT_EQ(targets_.size(), 0U);
  EXPECT_EQ(server_->streams(), 1U);
  Channel();
  RunFor(1s);
  EXPECT_TRUE(RunUntil([&] { return targets_.size() == 1 && targets_[0]->seen.received == "patience"; }));
  CutAndTell(*links_.front());
  RunFor(40s);
  EXPECT_EQ(server_->streams(), 0U);
  EXPECT_FALSE(Listens(listening));
  Channel();
  RunFor(11s);
  EXPECT_TRUE(Listens(listening)) << "it was asked for again";
}

TEST_F(MuxReverse, AnotherServerIsAskedAtOnce) {
  const uint16_t listening = Forward();
  Channel();
  Visitor* visitor = Visit(listening);
  ASSERT_NE(visitor, nullptr);
  ASSERT_TRUE(RunUntil([&] { return targets_.size() == 1; }));
  CutAndTell(*links_.front());
  NewServer(2);
  Settle();  // the old one's sockets close
  Channel();
  EXPECT_EQ(server_->streams(), 1U);
  Visitor* second = Visit(listening);
  ASSERT_NE(second, nullptr);
  second->stream->Send(Bytes("to the new one"));
  EXPECT_TRUE(RunUntil([&] { return targets_.size() == 2 && targets_[1]->seen.received == "to the new one"; }));
  RunFor(40s);
  EXPECT_FALSE(second->seen.dead.has_value()) << "the end of the old stream is none of the new one's";
}

TEST_F(MuxReverse, ASessionHasSoManyListeners) {
  for (size_t i = 0; i <= kMuxListenersPerSession; ++i) {
    auto& spec = specs_.emplace_back();
    spec.kind = ListenKind::kReverse;
    spec.address = *core::SocketAddress::Parse("127.0.0.1", 0);
    spec.target = {.host = "127.0.0.1", .port = port()};
    forwards_->Add(spec);
  }
  Channel();
  EXPECT_EQ(server_->streams(), kMuxListenersPerSession);
}

TEST_F(MuxReverse, ASessionWithoutRoomLeavesVisitorsToTheKernel) {
  const uint16_t listening = Forward();
  Channel();
  ASSERT_TRUE(Visit(listening) != nullptr && RunUntil([&] { return targets_.size() == 1; }));
  server_budget_.Hold(kMuxHeldBudgetBytes);
  RunFor(1s);
  Visitor* first = Visit(listening);  // finds out that there is no room
  ASSERT_NE(first, nullptr);
  EXPECT_TRUE(RunUntil([&] { return first->seen.dead.has_value() || first->seen.ends > 0; }));
  Visitor* second = Visit(listening);
  ASSERT_NE(second, nullptr);
  second->stream->Send(Bytes("patience"));
  RunFor(1s);
  EXPECT_EQ(server_->streams(), 2U);
  server_budget_.LetGo(kMuxHeldBudgetBytes);
  RunFor(1s);
  EXPECT_TRUE(RunUntil([&] { return targets_.size() == 2 && targets_[1]->seen.received == "patience"; }));
  EXPECT_FALSE(second->seen.dead.has_value());
}

TEST_F(MuxReverse, SaysOnceThatTheServerCannot) {
  (void)Forward();
  forwards_->OnChannelsChanged(true);
  forwards_->OnChannelsChanged(true);
  EXPECT_EQ(client_->streams(), 0U);
}

}  // namespace
}  // namespace tunnel::net
