// The two ends of a legacy channel, LegacyClient with OpenLegacyStream and LegacyServer, each against the test.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/listener.h"
#include "legacy_ids.h"
#include "manual_backend.h"
#include "memory_stream.h"
#include "message_peer.h"
#include "net/direct_datagrams.h"
#include "net/legacy_client.h"
#include "net/legacy_server.h"
#include "net/limits.h"
#include "net/tcp_stream.h"
#include "run_task.h"
#include "stream_recorder.h"

namespace tunnel::net {
namespace {

using namespace std::chrono_literals;
using core::SocketAddress;
using proto::Role;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;
using testing::StartsWith;

// --- the client ---

class LegacyClientTest : public ManualReactorTest {
 protected:
  // A channel of the client's and the server that the test plays.
  struct Channel {
    std::unique_ptr<WebSocket> socket;
    std::unique_ptr<LegacyClient> client;
    std::unique_ptr<MessagePeer> server;
    std::optional<absl::Status> down;

    ~Channel() { client.reset(); }  // before its socket
  };
  using Opened = std::optional<absl::StatusOr<std::unique_ptr<ByteStream>>>;

  void AddChannels(int count) {
    for (int i = 0; i < count; ++i) {
      auto channel = std::make_unique<Channel>();
      auto [near, far] = MemoryStream::Pair(reactor());
      Channel& made = *channel;
      made.socket = std::make_unique<WebSocket>(reactor(), std::move(near), WebSocket::Options{.role = Role::kClient});
      made.client = std::make_unique<LegacyClient>(reactor(), *made.socket, static_cast<uint32_t>(i + 1),
                                                   [&made](const absl::Status& why) { made.down = why; });
      made.socket->Start(made.client.get(), {});
      made.server = std::make_unique<MessagePeer>(reactor(), std::move(far), Role::kServer);
      channels_.push_back(std::move(channel));
    }
  }
  void Open(std::string_view first = {}, const std::string& host = "target.test") {
    std::vector<LegacyClient*> clients;
    for (const auto& channel : channels_) clients.push_back(channel->client.get());
    // Blocks are smaller than what a caller may hand over in one slice is allowed to be.
    scope_.Spawn(StoreResult(OpenLegacyStream(reactor(), std::move(clients), {.host = host, .port = 80}, Bytes(first)),
                             &opened_));
    Settle();
  }
  std::vector<std::string> Heard(int channel) { return channels_[static_cast<size_t>(channel)]->server->Take(); }
  void Say(int channel, const std::string& message) { channels_[static_cast<size_t>(channel)]->server->Say(message); }
  // The id in the last message of a kind, "t CLAIM:ID|1" for instance.
  static std::string IdIn(const std::string& message) {
    return message.substr(message.find(':') + 1, proto::kConnectionIdBytes);
  }

  ~LegacyClientTest() override {
    scope_.Cancel();
    Settle();
    opened_.reset();
    channels_.clear();
    Settle();
    EXPECT_EQ(reactor().counters().streams_open.Get(), 0);
  }

  std::vector<std::unique_ptr<Channel>> channels_;
  Opened opened_;
  core::Scope scope_{reactor()};
};

TEST_F(LegacyClientTest, AsksASingleChannelForNothing) {
  AddChannels(1);
  Open("first bytes");
  auto heard = Heard(0);
  ASSERT_THAT(heard, ElementsAre(AllOf(StartsWith("t TCP:"), HasSubstr("|target.test:80|first bytes"))));
  EXPECT_FALSE(opened_.has_value());
  Say(0, "CONNECTED:" + IdIn(heard[0]));
  Settle();
  ASSERT_TRUE(opened_.has_value() && opened_->ok());
  (**opened_)->Send(Bytes("more"));
  Settle();
  EXPECT_THAT(Heard(0), ElementsAre("b DATA:" + IdIn(heard[0]) + "|more"));
}

TEST_F(LegacyClientTest, WritesIpv6TargetsInBrackets) {
  AddChannels(1);
  Open("", "2001:db8::1");
  EXPECT_THAT(Heard(0), ElementsAre(HasSubstr("|[2001:db8::1]:80|")));
}

TEST_F(LegacyClientTest, RacesItsChannels) {
  AddChannels(3);
  Open("hello");
  std::string id;
  for (int i = 0; i < 3; ++i) {
    const auto heard = Heard(i);
    ASSERT_THAT(heard, ElementsAre(StartsWith("t CLAIM:")));
    EXPECT_EQ(heard[0].substr(heard[0].find('|')), fmt::format("|{}", i + 1)) << "the channel's number";
    if (i > 0) {
      EXPECT_EQ(IdIn(heard[0]), id) << "one connection";
    }
    id = IdIn(heard[0]);
  }
  // The second answers first and carries the stream; the others come too late.
  Say(1, "CLAIM_ACK:" + id + "|2");
  Settle();
  Say(0, "CLAIM_ACK:" + id + "|1");
  Say(2, "CLAIM_ACK:" + id + "|3");
  Settle();
  EXPECT_THAT(Heard(0), IsEmpty());
  EXPECT_THAT(Heard(1), ElementsAre("t TCP:" + id + "|target.test:80|hello"));
  EXPECT_THAT(Heard(2), IsEmpty());
  Say(1, "CONNECTED:" + id);
  Settle();
  ASSERT_TRUE(opened_.has_value() && opened_->ok());
  EXPECT_EQ(channels_[1]->client->streams(), 1U);
}

TEST_F(LegacyClientTest, SendsWhatTheRequestDoesNotHoldOnceConnected) {
  AddChannels(1);
  const std::string first(kDataMessageBytes + 5000, 'f');
  Open(first);
  auto heard = Heard(0);
  ASSERT_THAT(heard, SizeIs(1));
  const std::string id = IdIn(heard[0]);
  EXPECT_EQ(heard[0], "t TCP:" + id + "|target.test:80|" + first.substr(0, kDataMessageBytes));
  Say(0, "CONNECTED:" + id);
  Settle();
  ASSERT_TRUE(opened_.has_value() && opened_->ok());
  EXPECT_THAT(Heard(0), ElementsAre("b DATA:" + id + "|" + first.substr(kDataMessageBytes)));
}

TEST_F(LegacyClientTest, HandsOnTheServersRefusal) {
  AddChannels(1);
  Open();
  Say(0, "CLOSE:" + IdIn(Heard(0)[0]));
  Settle();
  ASSERT_TRUE(opened_.has_value());
  EXPECT_TRUE(absl::IsUnavailable(opened_->status())) << opened_->status();
  EXPECT_THAT(Heard(0), IsEmpty()) << "a CLOSE is not answered";
}

// A target that speaks and leaves at once: all of it comes in one piece.
TEST_F(LegacyClientTest, OpensAStreamThatIsOverAlready) {
  for (const bool speaks : {true, false}) {
    SCOPED_TRACE(speaks);
    if (channels_.empty()) AddChannels(1);
    opened_.reset();
    Open();
    const std::string id = IdIn(Heard(0)[0]);
    Say(0, "CONNECTED:" + id);
    if (speaks) channels_[0]->server->SayBinary("DATA:" + id + "|12:00 UTC");
    Say(0, "CLOSE:" + id);
    Settle();
    ASSERT_TRUE(opened_.has_value());
    ASSERT_TRUE(opened_->ok()) << opened_->status();
    StreamRecorder seen;
    (**opened_)->SetHandler(&seen);
    Settle();
    EXPECT_EQ(seen.received, speaks ? "12:00 UTC" : "");
    EXPECT_TRUE(seen.dead.has_value() && seen.dead->ok());
    opened_.reset();
    EXPECT_EQ(channels_[0]->client->streams(), 0U);
  }
}

TEST_F(LegacyClientTest, KeepsForTheStreamWhatComesBeforeItIsTaken) {
  AddChannels(1);
  Open();
  const std::string id = IdIn(Heard(0)[0]);
  Say(0, "CONNECTED:" + id);
  channels_[0]->server->SayBinary("DATA:" + id + "|banner");
  Settle();
  StreamRecorder seen;
  (**opened_)->SetHandler(&seen);
  channels_[0]->server->SayBinary("DATA:" + id + "| and more");
  Settle();
  EXPECT_EQ(seen.received, "banner and more");
}

TEST_F(LegacyClientTest, GoesOnWhenAChannelOfTheRaceIsLost) {
  AddChannels(2);
  Open();
  const std::string id = IdIn(Heard(0)[0]);
  channels_[0]->server->Destroy();
  Settle();
  EXPECT_TRUE(channels_[0]->down.has_value());
  EXPECT_FALSE(opened_.has_value());
  Say(1, "CLAIM_ACK:" + id + "|2");
  Settle();
  Say(1, "CONNECTED:" + id);
  Settle();
  EXPECT_TRUE(opened_.has_value() && opened_->ok());
}

TEST_F(LegacyClientTest, FailsWhenItsChannelsAreLost) {
  for (const bool after_claim : {false, true}) {
    SCOPED_TRACE(after_claim);
    channels_.clear();
    opened_.reset();
    AddChannels(2);
    Open();
    const std::string id = IdIn(Heard(0)[0]);
    if (after_claim) {
      Say(0, "CLAIM_ACK:" + id + "|1");
      Settle();
      channels_[0]->server->Destroy();  // the winner: the request may have been carried out
    } else {
      channels_[0]->server->Destroy();
      channels_[1]->server->Destroy();
    }
    Settle();
    ASSERT_TRUE(opened_.has_value());
    EXPECT_TRUE(absl::IsAborted(opened_->status()));
    EXPECT_THAT(std::string(MessageOf(opened_->status())), HasSubstr("channel lost"));
  }
}

TEST_F(LegacyClientTest, FailsWhenTheCarrierIsDestroyedUnderIt) {
  AddChannels(1);
  Open();
  channels_[0]->client.reset();
  Settle();
  ASSERT_TRUE(opened_.has_value());
  EXPECT_FALSE(opened_->ok());
}

TEST_F(LegacyClientTest, LeavesNothingBehindWhenInterrupted) {
  for (const bool requested : {false, true}) {
    SCOPED_TRACE(requested);
    AddChannels(requested ? 1 : 2);
    std::optional<absl::StatusOr<std::unique_ptr<ByteStream>>> result;
    core::Scope scope(reactor());
    std::vector<LegacyClient*> clients;
    for (const auto& channel : channels_) clients.push_back(channel->client.get());
    scope.Spawn(StoreResult(OpenLegacyStream(reactor(), clients, {.host = "a", .port = 1}, {}), &result));
    Settle();
    const auto heard = Heard(0);
    const std::string id = IdIn(heard.at(0));
    scope.Cancel();
    Settle();
    ASSERT_TRUE(result.has_value());
    EXPECT_TRUE(absl::IsCancelled(result->status()));
    if (requested) {
      EXPECT_THAT(Heard(0), ElementsAre("t CLOSE:" + id)) << "the server must not connect for nobody";
    }
    // Late answers find nobody.
    Say(0, "CLAIM_ACK:" + id + "|1");
    Say(0, "CONNECTED:" + id);
    Settle();
    EXPECT_EQ(channels_[0]->client->streams(), 0U);
    channels_.clear();
  }
}

TEST_F(LegacyClientTest, RefusesATargetThatCannotTravel) {
  AddChannels(1);
  for (const std::string& host : {std::string("a|b"), std::string(), std::string(256, 'a'), std::string("a b")}) {
    opened_.reset();
    Open("", host);
    ASSERT_TRUE(opened_.has_value());
    EXPECT_TRUE(absl::IsInvalidArgument(opened_->status())) << host;
  }
  for (const std::string& message : Heard(0)) EXPECT_THAT(message, StartsWith("t CLOSE:"));
}

TEST_F(LegacyClientTest, TellsAServerThatGoesOnSendingToAClosedStream) {
  AddChannels(1);
  channels_[0]->server->SayBinary("DATA:" + IdText(5) + "|who is this for");
  Say(0, "CLOSE:" + IdText(5));
  Say(0, "ERROR:something is wrong");
  Say(0, "UDP_ERROR:" + IdText(5) + "|nobody asked");
  Say(0, "CLAIM_ACK:" + IdText(5) + "|1");
  Settle();
  EXPECT_THAT(Heard(0), ElementsAre("t CLOSE:" + IdText(5)));
  EXPECT_FALSE(channels_[0]->down.has_value());
}

// --- the server ---

// Names of the test's own; one is never answered.
class ScriptedResolver final : public Resolver {
 public:
  core::Task<absl::StatusOr<std::vector<SocketAddress>>> Resolve(std::string host, uint16_t port) override {
    ++asked;
    if (host == "hangs.test") {
      const absl::Status waited = co_await never_.Wait();
      co_return waited;
    }
    if (host == "loopback.test") host = "127.0.0.1";
    auto address = SocketAddress::Parse(host, port);
    if (!address.has_value()) co_return NotFound("no such name");
    co_return std::vector<SocketAddress>{*address};
  }
  int asked = 0;

 private:
  core::Event never_;
};

std::vector<TargetRule> AllowLoopback() {
  auto network = proto::ParseCidr("127.0.0.0/8");
  EXPECT_TRUE(network.ok());
  return {{.kind = TargetRule::Kind::kNetwork, .network = *network, .name = {}}};
}

class LegacyServerTest : public ManualReactorTest, public testing::WithParamInterface<size_t> {
 protected:
  LegacyServerTest() {
    auto listener = core::Listener::Open(reactor(), *SocketAddress::Parse("127.0.0.1", 0), false,
                                         [this](core::StreamSocket socket, const SocketAddress&) {
                                           targets_.push_back(std::make_unique<Target>());
                                           Target& target = *targets_.back();
                                           target.stream = std::make_unique<TcpStream>(std::move(socket));
                                           target.stream->SetHandler(&target.seen);
                                         });
    EXPECT_TRUE(listener.ok());
    listener_ = std::make_unique<core::Listener>(*std::move(listener));
    auto [near, far] = MemoryStream::Pair(reactor(), GetParam());
    socket_ = std::make_unique<WebSocket>(reactor(), std::move(near), WebSocket::Options{.role = Role::kServer});
    server_ = std::make_unique<LegacyServer>(reactor(), *socket_, connector_, datagrams_, relays_, scope_,
                                             [this](const absl::Status& why) { down_ = why; });
    socket_->Start(server_.get(), {});
    client_ = std::make_unique<MessagePeer>(reactor(), std::move(far), Role::kClient);
  }
  ~LegacyServerTest() override {
    scope_.Cancel();
    EXPECT_TRUE(RunUntil([&] { return scope_.empty(); }));
    server_.reset();
    EXPECT_EQ(reactor().counters().connects_in_progress.Get(), 0);
  }

  struct Target {
    std::unique_ptr<TcpStream> stream;
    StreamRecorder seen;
  };

  [[nodiscard]] uint16_t port() const { return listener_->local_address().port(); }
  void Request(int number, const std::string& host, const std::string& first = {}) {
    client_->Say(fmt::format("TCP:{}|{}:{}|{}", IdText(number), host, port(), first));
  }
  // Waits for so many messages in all and returns them.
  std::vector<std::string> Hear(size_t count) {
    EXPECT_TRUE(RunUntil([&] { return client_->messages.size() >= count; }));
    Settle();
    return client_->Take();
  }

  ScriptedResolver resolver_;
  TargetPolicy policy_{AllowLoopback(), {}};
  TargetConnector connector_{reactor(), resolver_, policy_};
  RelaySet relays_{reactor()};
  core::Scope scope_{reactor()};
  DirectDatagrams datagrams_{reactor(), resolver_, policy_, scope_};
  std::unique_ptr<core::Listener> listener_;
  std::vector<std::unique_ptr<Target>> targets_;
  std::unique_ptr<WebSocket> socket_;
  std::unique_ptr<LegacyServer> server_;
  std::unique_ptr<MessagePeer> client_;
  std::optional<absl::Status> down_;
};

INSTANTIATE_TEST_SUITE_P(Pieces, LegacyServerTest, testing::Values(SIZE_MAX, 700));

TEST_P(LegacyServerTest, AnswersClaimsWithTheirChannel) {
  client_->Say("CLAIM:" + IdText(1) + "|7");
  client_->Say("CLAIM:" + IdText(2) + "|0");
  EXPECT_THAT(Hear(2), ElementsAre("t CLAIM_ACK:" + IdText(1) + "|7", "t CLAIM_ACK:" + IdText(2) + "|0"));
  EXPECT_EQ(server_->streams(), 0U) << "a claim holds nothing";
}

TEST_P(LegacyServerTest, ConnectsAndRelaysInOrder) {
  // The client does not wait for CONNECTED.
  const std::string first(20000, 'f');
  const std::string early(20000, 'e');
  Request(1, "loopback.test", first);
  client_->Say("DATA:" + IdText(1) + "|" + early);
  EXPECT_THAT(Hear(1), ElementsAre("t CONNECTED:" + IdText(1)));
  ASSERT_TRUE(RunUntil([&] { return !targets_.empty() && targets_[0]->seen.received.size() == 40000; }));
  EXPECT_EQ(targets_[0]->seen.received, first + early);
  targets_[0]->stream->Send(Bytes("answer"));
  EXPECT_THAT(Hear(1), ElementsAre("b DATA:" + IdText(1) + "|answer"));
  // The target's end ends the stream: there is no half-close.
  targets_[0]->stream->FinishSend();
  EXPECT_THAT(Hear(1), ElementsAre("t CLOSE:" + IdText(1)));
  ASSERT_TRUE(RunUntil([&] { return targets_[0]->seen.ends == 1; }));
  EXPECT_EQ(relays_.size(), 0U);
  EXPECT_EQ(server_->streams(), 0U);
}

TEST_P(LegacyServerTest, EndsTheTargetWithTheClientsClose) {
  Request(1, "127.0.0.1");
  (void)Hear(1);
  client_->Say("DATA:" + IdText(1) + "|bye");
  client_->Say("CLOSE:" + IdText(1));
  ASSERT_TRUE(RunUntil([&] { return !targets_.empty() && targets_[0]->seen.ends == 1; }));
  EXPECT_EQ(targets_[0]->seen.received, "bye") << "what was sent is delivered first";
  Settle();
  EXPECT_THAT(client_->messages, IsEmpty());
}

TEST_P(LegacyServerTest, TellsAResetTargetFromAnEndedOne) {
  Request(1, "127.0.0.1");
  (void)Hear(1);
  ASSERT_TRUE(RunUntil([&] { return !targets_.empty(); }));
  targets_[0]->stream->Abort();
  EXPECT_THAT(Hear(1), ElementsAre("t CLOSE:" + IdText(1)));
  EXPECT_EQ(relays_.size(), 0U);
}

TEST_P(LegacyServerTest, AnswersEveryRequestThatFails) {
  listener_.reset();  // its port is closed now
  auto bound = core::Listener::Open(reactor(), *SocketAddress::Parse("127.0.0.1", 0), false,
                                    [](core::StreamSocket, const SocketAddress&) {});
  ASSERT_TRUE(bound.ok());
  const uint16_t closed = bound->local_address().port();
  {
    const core::Listener gone = *std::move(bound);
  }
  Settle();
  int number = 0;
  for (const std::string& target : {
           fmt::format("127.0.0.1:{}|x", closed),        // refused
           std::string("nowhere.test:80|"),              // no such name
           std::string("169.254.169.254:80|"),           // denied
           std::string("[::ffff:169.254.169.254]:80|"),  // denied, spelled otherwise
           std::string("no port|"),                      // not a target
           std::string("127.0.0.1:0|"), std::string("127.0.0.1:99999|"), std::string("[::1:80|"), std::string("|"),
           std::string(300, 'a') + ":80|first",
           std::string("127.0.0.1"),  // nothing behind it
       }) {
    ++number;
    client_->Say("TCP:" + IdText(number) + "|" + target);
    EXPECT_THAT(Hear(1), ElementsAre("t CLOSE:" + IdText(number))) << target;
  }
  EXPECT_EQ(server_->streams(), 0U);
  EXPECT_EQ(reactor().counters().streams_failed.Get(), number);
  EXPECT_EQ(reactor().counters().targets_denied.Get(), 2);
}

TEST_P(LegacyServerTest, KeepsTheStreamWhoseIdIsAskedForAgain) {
  Request(1, "127.0.0.1", "one");
  (void)Hear(1);
  Request(1, "127.0.0.1", "again");
  client_->Say("TCP:" + IdText(1) + "|no target|");
  client_->Say("DATA:" + IdText(1) + "| two");
  ASSERT_TRUE(RunUntil([&] { return targets_[0]->seen.received.size() >= 7; }));
  Settle();
  EXPECT_EQ(targets_[0]->seen.received, "one two");
  EXPECT_THAT(client_->messages, IsEmpty()) << "a CLOSE would end the stream that is there";
  EXPECT_EQ(targets_.size(), 1U);
}

TEST_P(LegacyServerTest, ForgetsARequestThatIsClosedBeforeItIsConnected) {
  Request(1, "hangs.test", "first");
  client_->Say("DATA:" + IdText(1) + "|kept");
  Settle();
  ASSERT_TRUE(RunUntil([&] { return resolver_.asked == 1; }));
  client_->Say("CLOSE:" + IdText(1));
  Settle();
  EXPECT_EQ(server_->streams(), 0U);
  RunFor(kTargetConnectLimit + 1s);
  EXPECT_EQ(reactor().counters().connects_in_progress.Get(), 0);
  EXPECT_THAT(client_->messages, IsEmpty());
}

TEST_P(LegacyServerTest, GivesUpOnATargetThatDoesNotAnswer) {
  Request(1, "hangs.test");
  RunFor(kTargetConnectLimit - 1s);
  EXPECT_THAT(client_->messages, IsEmpty());
  RunFor(1s + 10ms);
  EXPECT_THAT(Hear(1), ElementsAre("t CLOSE:" + IdText(1)));
}

TEST_P(LegacyServerTest, BoundsConnectsInProgress) {
  for (int i = 0; i < kConnectsPerCore; ++i) Request(i, "hangs.test");
  ASSERT_TRUE(RunUntil([&] { return reactor().counters().connects_in_progress.Get() == kConnectsPerCore; }));
  EXPECT_THAT(client_->messages, IsEmpty());
  Request(5000, "127.0.0.1");
  EXPECT_THAT(Hear(1), ElementsAre("t CLOSE:" + IdText(5000)));
}

// What a client sends before its target is connected is bounded like everything that waits for a reader.
TEST_P(LegacyServerTest, StopsAChannelThatSendsTooMuchBeforeTheTargetIsThere) {
  const std::string block(30000, 'x');
  Request(1, "hangs.test", block);
  size_t sent = 1;
  for (int i = 0; i < 100; ++i) {
    for (; client_->socket().writable(); ++sent) client_->Say("DATA:" + IdText(1) + "|" + block);
    Settle();
  }
  EXPECT_LE(sent * block.size(), kParkedStreamBytes + MemoryStream::kHighWaterBytes + 3 * block.size());
  RunFor(kTargetConnectLimit + 1s);
  EXPECT_THAT(Hear(1), testing::Contains("t CLOSE:" + IdText(1)));
  // The channel lives on.
  client_->Say("CLAIM:" + IdText(2) + "|1");
  EXPECT_THAT(Hear(1), ElementsAre("t CLAIM_ACK:" + IdText(2) + "|1"));
}

TEST_P(LegacyServerTest, CountsWhatComesWithTheRequestTowardsThatBound) {
  Request(1, "hangs.test", std::string(60000, 'x'));
  // Requests of many streams, each with its first bytes: no stream is over its bound, and one that is stops them all.
  const std::string block(30000, 'x');
  for (int i = 0; i < 100; ++i) {
    if (client_->socket().writable()) client_->Say("DATA:" + IdText(1) + "|" + block);
    Settle();
  }
  EXPECT_FALSE(client_->socket().writable());
  EXPECT_LE(reactor().counters().buffer_bytes_in_use.Get(),
            static_cast<int64_t>(kParkedStreamBytes + 2 * MemoryStream::kHighWaterBytes + 512 * 1024));
}

TEST_P(LegacyServerTest, ResetsTargetsWhenTheChannelIsLost) {
  Request(1, "127.0.0.1", "half of an upload");
  Request(2, "hangs.test");
  (void)Hear(1);
  ASSERT_TRUE(RunUntil([&] { return !targets_.empty() && !targets_[0]->seen.received.empty(); }));
  client_->Destroy();
  ASSERT_TRUE(RunUntil([&] { return targets_[0]->seen.dead.has_value() || targets_[0]->seen.ends > 0; }));
  EXPECT_EQ(targets_[0]->seen.ends, 0) << "an end would look like the whole";
  EXPECT_TRUE(down_.has_value());
  EXPECT_EQ(server_->streams(), 0U);
  EXPECT_EQ(relays_.size(), 0U);
  // As whoever keeps channels does; the connect in progress outlives it.
  server_.reset();
  socket_.reset();
  RunFor(kTargetConnectLimit + 1s);
}

TEST_P(LegacyServerTest, AnswersAnAssociationWhoseTargetIsNone) {
  client_->Say("UDP_CONNECT:" + IdText(2) + "|nonsense");
  EXPECT_THAT(Hear(1), ElementsAre(StartsWith("t UDP_ERROR:" + IdText(2) + "|")));
}

TEST_P(LegacyServerTest, IgnoresDataOfStreamsItDoesNotHave) {
  client_->Say("DATA:" + IdText(9) + "|who");
  client_->SayBinary("DATA:" + IdText(9) + "|who");
  client_->Say("CLOSE:" + IdText(9));
  client_->Say("CLAIM:" + IdText(1) + "|1");
  EXPECT_THAT(Hear(1), ElementsAre("t CLAIM_ACK:" + IdText(1) + "|1")) << "as the original: no answer to late data";
}

}  // namespace
}  // namespace tunnel::net
