// A pool of channels that dial a tunnel server in the same process, on the test's clock.
#include "net/client_pool.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <string>
#include <vector>

#include "core/listener.h"
#include "datagram_peers.h"
#include "ech/key_store.h"
#include "manual_backend.h"
#include "net/direct_datagrams.h"
#include "net/limits.h"
#include "net/made_certificate.h"
#include "net/tcp_stream.h"
#include "net/tunnel_server.h"
#include "run_task.h"
#include "stream_recorder.h"

namespace tunnel::net {
namespace {

using namespace std::chrono_literals;
using core::Duration;
using core::SocketAddress;
using core::TimePoint;
using std::chrono::system_clock;
using testing::HasSubstr;

constexpr const char* kHost = "inner.test";
constexpr const char* kPublicName = "outer.test";

// Every limit that delays are drawn from divides this, so that one less draws the longest of each.
constexpr uint64_t kLongestDraw = 240'000'000'000 - 1;
static_assert((kLongestDraw + 1) % static_cast<uint64_t>(kBackOffMax.count()) == 0);
static_assert((kLongestDraw + 1) % static_cast<uint64_t>(64 * kBackOffMin.count()) == 0);
static_assert((kLongestDraw + 1) % static_cast<uint64_t>(kDialSpacing.count()) == 0);

class DeadDoh final : public ech::DohTransport {
 public:
  core::Task<absl::StatusOr<std::vector<uint8_t>>> Query(std::string name, uint16_t type) override {
    (void)name;
    (void)type;
    co_return Unavailable("nobody answers");
  }
};

class LoopbackResolver final : public Resolver {
 public:
  core::Task<absl::StatusOr<std::vector<SocketAddress>>> Resolve(std::string host, uint16_t port) override {
    (void)host;
    co_return std::vector<SocketAddress>{*SocketAddress::Parse("127.0.0.1", port)};
  }
};

class ClientPoolTest : public ManualReactorTest {
 protected:
  ~ClientPoolTest() override {
    scope_.Cancel();
    EXPECT_TRUE(RunUntil([&] { return scope_.empty(); }));
    opened_.clear();
    pool_.reset();
    server_.reset();  // which keeps streams for a while
    Settle();
    EXPECT_EQ(reactor().counters().streams_open.Get(), 0);
  }

  // A server with ECH on loopback, its target an echo.
  void StartServer() {
    const std::vector<std::string> names = {kHost, kPublicName};
    auto pair =
        MakeSelfSigned(names, system_clock::now() - std::chrono::hours(1), system_clock::now() + std::chrono::hours(1));
    ASSERT_TRUE(pair.ok());
    auto tls = TlsServerContext::FromPem(pair->certificate_pem, "cert", pair->key_pem.Reveal(), "key", {"http/1.1"});
    ASSERT_TRUE(tls.ok());
    server_tls_ = *std::move(tls);
    UseNewEchKey();

    server_config_.admitted = {*proto::ParseCidr("0.0.0.0/0")};
    server_config_.token = "secret";
    spec_.kind = ListenKind::kServerTls;
    server_ = std::make_unique<TunnelServer>(reactor(),
                                             ServerParts{.config = server_config_,
                                                         .sources = sources_,
                                                         .directory = sessions_,
                                                         .move = nullptr,
                                                         .tls = server_tls_.get()},
                                             connector_, datagrams_, relays_, scope_);
    Listen(0);
    auto echo = core::Listener::Open(reactor(), *SocketAddress::Parse("127.0.0.1", 0), false,
                                     [this](core::StreamSocket socket, const SocketAddress&) {
                                       targets_.push_back(std::make_unique<Target>());
                                       Target& target = *targets_.back();
                                       target.stream = std::make_unique<TcpStream>(std::move(socket));
                                       target.stream->SetHandler(&target.seen);
                                     });
    ASSERT_TRUE(echo.ok());
    target_listener_ = std::make_unique<core::Listener>(*std::move(echo));

    config_.server_addresses = {*SocketAddress::Parse("127.0.0.1", 0)};
    config_.server_port = listener_->local_address().port();
    config_.token = "secret";
    client_options_.pins = {server_tls_->pin()};
  }
  void Listen(uint16_t port) {
    auto listener = core::Listener::Open(reactor(), *SocketAddress::Parse("127.0.0.1", port), false,
                                         [this](core::StreamSocket socket, const SocketAddress&) {
                                           accepted_.push_back(reactor().now());
                                           server_->OnAccepted(spec_, std::move(socket));
                                         });
    ASSERT_TRUE(listener.ok()) << listener.status();
    listener_ = std::make_unique<core::Listener>(*std::move(listener));
  }
  void UseNewEchKey() {
    auto key = ech::GenerateKey(kPublicName, 64, {}, system_clock::now());
    ASSERT_TRUE(key.ok());
    std::vector<ech::EchKey> keys;
    keys.push_back(*std::move(key));
    auto store = ech::KeyStore::FromKeys(std::move(keys));
    ASSERT_TRUE(store.ok());
    ASSERT_TRUE(server_tls_->SetEchKeys(*store).ok());
    const std::vector<uint8_t> list = store->PublishedList();
    published_.assign(list.begin(), list.end());
  }

  void StartClient(unsigned channels, Protocol protocol = Protocol::kAuto, uint32_t first_stream_id = 1) {
    config_.protocol = protocol;
    config_.server_host = kHost;
    config_.doh_urls = {"https://resolver.test/dns-query"};
    config_.ech_name = kPublicName;
    if (config_.ech_config_list.empty()) config_.ech_config_list = published_;
    auto tls = TlsClientContext::Create(client_options_);
    ASSERT_TRUE(tls.ok()) << tls.status();
    client_tls_ = *std::move(tls);
    if (directory_ == nullptr) {
      auto directory = ServerDirectory::Create(reactor(), config_, doh_, scope_);
      ASSERT_TRUE(directory.ok()) << directory.status();
      directory_ = *std::move(directory);
    }
    pool_ = std::make_unique<ClientPool>(reactor(), config_, *client_tls_, *directory_, first_stream_id);
    pool_->SetChanged([this](unsigned up) { changes_.push_back(up); });
    for (unsigned i = 0; i < channels; ++i) pool_->AddChannel(scope_, i + 1, std::nullopt);
  }
  // A client whose server is nowhere: each attempt to dial fails at once, and is remembered.
  void StartClientOfNobody() {
    directory_ = std::make_unique<ServerDirectory>(
        reactor(), config_, [this](const ServerDirectory::ToKeeper&) { failed_dials_.push_back(reactor().now()); });
    auto knowledge = std::make_shared<ServerKnowledge>();
    knowledge->addresses = {*SocketAddress::Unix("/nonexistent/socket")};
    knowledge->addresses_usable_until = core::kNever;
    directory_->Learn(std::move(knowledge));
    config_.fallback = true;
    client_options_.pins = {Pin{}};
    StartClient(1);
  }
  // Turns, and lets time pass, until so many channels are up.
  void RunUntilUp(unsigned channels) {
    ASSERT_TRUE(RunUntil([&] {
      RunFor(5ms);
      return pool_->channels_up() == channels;
    }));
    ASSERT_TRUE(RunUntil([&] { return server_ == nullptr || server_->channels() >= channels; }));
  }

  using Opened = std::optional<absl::StatusOr<std::unique_ptr<ByteStream>>>;
  Opened& Open(const std::string& first = {}) {
    opened_.push_back(std::make_unique<Opened>());
    const uint16_t port = target_listener_ == nullptr ? uint16_t{1} : target_listener_->local_address().port();
    scope_.Spawn(StoreResult(pool_->Open({.host = "target.test", .port = port}, Bytes(first)), opened_.back().get()));
    return *opened_.back();
  }

  struct Target {
    std::unique_ptr<TcpStream> stream;
    StreamRecorder seen;
  };

  DeadDoh doh_;
  LoopbackResolver resolver_;
  TargetPolicy policy_{{{.kind = TargetRule::Kind::kAny, .network = {}, .name = {}}}, {}};
  TargetConnector connector_{reactor(), resolver_, policy_};
  RelaySet relays_{reactor()};
  core::Scope scope_{reactor()};
  DirectDatagrams datagrams_{reactor(), resolver_, policy_, scope_};
  SourceLimit sources_{0};
  MuxSessionDirectory sessions_{reactor()};
  Config server_config_;
  ListenSpec spec_;
  std::unique_ptr<TlsServerContext> server_tls_;
  std::unique_ptr<TunnelServer> server_;
  std::unique_ptr<core::Listener> listener_;
  std::unique_ptr<core::Listener> target_listener_;
  std::vector<std::unique_ptr<Target>> targets_;
  std::vector<TimePoint> accepted_;
  std::string published_;

  Config config_;
  TlsClientOptions client_options_;
  std::unique_ptr<TlsClientContext> client_tls_;
  std::unique_ptr<ServerDirectory> directory_;
  std::unique_ptr<ClientPool> pool_;
  std::vector<TimePoint> failed_dials_;
  std::vector<unsigned> changes_;
  std::vector<std::unique_ptr<Opened>> opened_;
};

// --- back-off ---

TEST_F(ClientPoolTest, BacksOffTwiceAsLongEachTimeUpToItsLimit) {
  backend().SetDraw(kLongestDraw);
  StartClientOfNobody();
  RunFor(std::chrono::minutes(4));
  backend().SetDraw(std::nullopt);
  const std::vector<TimePoint>& dials = failed_dials_;
  ASSERT_GE(dials.size(), 10U);
  Duration expected = kBackOffMin;
  for (size_t i = 0; i + 1 < dials.size(); ++i) {
    const Duration waited = dials[i + 1] - dials[i];
    EXPECT_GE(waited, expected + kDialSpacing - 2ms) << "attempt " << i;
    EXPECT_LE(waited, expected + kDialSpacing + 10ms) << "attempt " << i;
    expected = std::min(2 * expected, kBackOffMax);
  }
  EXPECT_EQ(expected, kBackOffMax);
}

TEST_F(ClientPoolTest, SpreadsItsAttemptsOverTheWholeDelay) {
  StartClientOfNobody();
  RunFor(std::chrono::hours(2));
  const std::vector<TimePoint>& dials = failed_dials_;
  // Full jitter: evenly between nothing and the limit. Of some 480 draws a quarter falls into each quarter.
  ASSERT_GE(dials.size(), 300U);
  std::array<int, 4> quarters{};
  for (size_t i = 20; i + 1 < dials.size(); ++i) {
    const Duration waited = dials[i + 1] - dials[i];
    EXPECT_LE(waited, kBackOffMax + kDialSpacing + 10ms);
    ++quarters[std::min<size_t>(3, static_cast<size_t>(4 * waited / kBackOffMax))];
  }
  for (const int quarter : quarters) EXPECT_GE(quarter, 40);
}

// --- channels up, lost, dialled again ---

TEST_F(ClientPoolTest, BringsItsChannelsUpOneAfterAnotherUnderEch) {
  StartServer();
  backend().SetDraw(kLongestDraw);
  StartClient(3);
  RunUntilUp(3);
  EXPECT_EQ(reactor().counters().ech_accepted.Get(), 6) << "three at each end";
  ASSERT_EQ(accepted_.size(), 3U);
  for (size_t i = 1; i < 3; ++i) EXPECT_GE(accepted_[i] - accepted_[i - 1], kDialSpacing - 2ms);
  EXPECT_EQ(changes_, (std::vector<unsigned>{1, 2, 3}));
}

TEST_F(ClientPoolTest, CarriesAStreamOverWhicheverChannelAnswers) {
  StartServer();
  StartClient(3, Protocol::kLegacy);
  RunUntilUp(3);
  Opened& opened = Open("hello");
  ASSERT_TRUE(RunUntil([&] { return opened.has_value(); }));
  ASSERT_TRUE(opened->ok()) << opened->status();
  StreamRecorder seen;
  (**opened)->SetHandler(&seen);
  ASSERT_TRUE(RunUntil([&] { return targets_.size() == 1 && targets_[0]->seen.received == "hello"; }));
  targets_[0]->stream->Send(Bytes("world"));
  ASSERT_TRUE(RunUntil([&] { return seen.received == "world"; }));
  targets_[0]->stream->FinishSend();
  ASSERT_TRUE(RunUntil([&] { return seen.dead.has_value(); }));
  EXPECT_TRUE(seen.dead->ok());
  EXPECT_EQ(targets_.size(), 1U) << "one connection, however many channels raced";
}

TEST_F(ClientPoolTest, OpensWhenAChannelComesUp) {
  StartServer();
  StartClient(1);
  Opened& opened = Open("patient");
  EXPECT_FALSE(opened.has_value());
  RunUntilUp(1);
  ASSERT_TRUE(RunUntil([&] { return opened.has_value(); }));
  EXPECT_TRUE(opened->ok()) << opened->status();
}

TEST_F(ClientPoolTest, DoesNotWaitForeverForAChannel) {
  client_options_.pins = {Pin{}};
  StartClient(1);
  config_.fallback = true;
  Opened& opened = Open();
  RunFor(kOpenLimit - 1s);
  EXPECT_FALSE(opened.has_value());
  RunFor(1s + 10ms);
  ASSERT_TRUE(opened.has_value());
  EXPECT_EQ(opened->status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(MessageOf(opened->status())), HasSubstr("no channel to the server is up"));
  EXPECT_EQ(reactor().counters().streams_failed.Get(), 1);
}

// What will carry an association that is older than every channel, the channel says.
class ClientPoolDatagrams : public ClientPoolTest, public testing::WithParamInterface<Protocol> {};

TEST_P(ClientPoolDatagrams, GoOverTheFirstChannelThatComesUp) {
  StartServer();
  EchoTarget echo(reactor());
  StartClient(1, GetParam());
  DatagramRecorder seen;
  auto association = pool_->Open(seen, SenderFilter::kAnySender);
  ASSERT_TRUE(association.ok());
  (*association)->Send(echo.target(), Bytes("too early"));
  EXPECT_EQ(reactor().counters().datagrams_dropped.Get(), 1);
  RunUntilUp(1);
  (*association)->Send(echo.target(), Bytes("in time"));
  ASSERT_TRUE(RunUntil([&] { return !seen.received.empty(); }));
  EXPECT_EQ(seen.received.front(), proto::ToString(echo.target()) + " echo:in time");
}

INSTANTIATE_TEST_SUITE_P(Protocols, ClientPoolDatagrams, testing::Values(Protocol::kNative, Protocol::kLegacy));

TEST_F(ClientPoolTest, EndsTheStreamsOfALostChannelAndDialsAgain) {
  StartServer();
  StartClient(1, Protocol::kLegacy);
  RunUntilUp(1);
  Opened& opened = Open("x");
  ASSERT_TRUE(RunUntil([&] { return opened.has_value() && targets_.size() == 1; }));
  ASSERT_TRUE(opened->ok());
  StreamRecorder seen;
  (**opened)->SetHandler(&seen);
  server_->CloseChannels();
  ASSERT_TRUE(RunUntil([&] { return seen.dead.has_value() && targets_[0]->seen.dead.has_value(); }));
  EXPECT_FALSE(seen.dead->ok()) << "cut off, not ended";
  EXPECT_FALSE(targets_[0]->seen.dead->ok());
  EXPECT_EQ(pool_->channels_up(), 0U);
  // The first attempt is soon, and what opens meanwhile waits for it.
  Opened& next = Open("y");
  const TimePoint lost = reactor().now();
  RunUntilUp(1);
  EXPECT_LE(reactor().now() - lost, kBackOffMin + kDialSpacing + 20ms);
  ASSERT_TRUE(RunUntil([&] { return next.has_value(); }));
  EXPECT_TRUE(next->ok());
  EXPECT_EQ(reactor().counters().channels_lost.Get(), 2) << "one at each end";
}

// A server that takes channels and drops them must not be dialled in a tight loop.
TEST_F(ClientPoolTest, BacksOffFromAServerThatDropsItsChannels) {
  StartServer();
  backend().SetDraw(kLongestDraw);
  StartClient(1);
  const auto end = reactor().now() + std::chrono::minutes(2);
  while (reactor().now() < end) {
    RunFor(50ms);
    if (server_->channels() > 0) server_->CloseChannels();
  }
  backend().SetDraw(std::nullopt);
  EXPECT_GE(accepted_.size(), 5U);
  EXPECT_LE(accepted_.size(), 16U);
}

// --- channels replaced ---

// What every replacement has to do: a stream that was open goes on, and what it was on is closed.
class ClientPoolReplacement : public ClientPoolTest {
 protected:
  ~ClientPoolReplacement() override {
    if (stream_ != nullptr) stream_.reset();
    Settle();
  }
  void OpenOne() {
    Opened& opened = Open("before");
    ASSERT_TRUE(RunUntil([&] { return opened.has_value() && targets_.size() == 1; }));
    ASSERT_TRUE(opened->ok()) << opened->status();
    stream_ = **std::move(opened);
    stream_->SetHandler(&seen_);
  }
  void ExpectOpen() {
    stream_->Send(Bytes(" after"));
    targets_[0]->stream->Send(Bytes("answer"));
    EXPECT_TRUE(RunUntil([&] { return targets_[0]->seen.received == "before after" && seen_.received == "answer"; }));
    EXPECT_FALSE(seen_.dead.has_value());
  }
  // Turns, and lets time pass, until the client has dialled `dials` times and the server has `channels`.
  void RunUntilReplaced(size_t dials, size_t channels) {
    for (int i = 0; i < 200 && (accepted_.size() != dials || server_->channels() != channels); ++i) RunFor(20ms);
    EXPECT_EQ(accepted_.size(), dials);
    EXPECT_EQ(server_->channels(), channels);
    EXPECT_EQ(pool_->channels_up(), 1U);
  }

  std::unique_ptr<ByteStream> stream_;
  StreamRecorder seen_;
};

TEST_F(ClientPoolReplacement, ForItsAge) {
  StartServer();
  StartClient(1);
  RunUntilUp(1);
  OpenOne();
  RunFor(kChannelAge * 3 / 4 - 1s);
  EXPECT_EQ(accepted_.size(), 1U);
  for (int i = 0; i < 1000 && accepted_.size() == 1; ++i) RunFor(kChannelAge / 3000);
  RunUntilReplaced(2, 1);
  ExpectOpen();
  EXPECT_EQ(reactor().counters().streams_moved.Get(), 2) << "once, at both ends";
}

TEST_F(ClientPoolReplacement, BecauseTheServerWantsItToBeLeft) {
  StartServer();
  StartClient(1);
  RunUntilUp(1);
  OpenOne();
  server_->GoAway();
  RunUntilReplaced(2, 1);
  ExpectOpen();
}

TEST_F(ClientPoolReplacement, BecauseTheSessionHasUsedUpItsIds) {
  StartServer();
  StartClient(1, Protocol::kAuto, UINT32_MAX - 10);
  RunUntilUp(1);
  OpenOne();
  RunUntilReplaced(2, 2);
  ExpectOpen();
  // The stream stays where it was until it ends; others are opened in the new session.
  Opened& next = Open("next");
  ASSERT_TRUE(RunUntil([&] { return next.has_value(); }));
  EXPECT_TRUE(next->ok()) << next->status();
  EXPECT_EQ(server_->channels(), 2U);
  stream_.reset();
  RunUntilReplaced(2, 1);
}

TEST_F(ClientPoolTest, RetriesOnceWithTheServersConfigs) {
  StartServer();
  config_.ech_config_list = published_;
  UseNewEchKey();  // the client's list is of yesterday
  StartClient(1);
  RunUntilUp(1);
  EXPECT_EQ(reactor().counters().ech_rejected.Get(), 2) << "one at each end";
  EXPECT_EQ(reactor().counters().ech_accepted.Get(), 2);
  EXPECT_EQ(accepted_.size(), 2U) << "the second attempt is the retry";
}

TEST_F(ClientPoolTest, TellsTheServerGoodbye) {
  StartServer();
  StartClient(2);
  RunUntilUp(2);
  pool_->CloseChannels();
  ASSERT_TRUE(RunUntil([&] { return server_->channels() == 0 && pool_->channels_up() == 0; }));
}

TEST_F(ClientPoolTest, GoesOnTryingAServerThatRefusesTheUpgrade) {
  StartServer();
  config_.token = "wrong";
  StartClient(1);
  RunFor(std::chrono::seconds(1));
  ASSERT_TRUE(RunUntil([&] {
    RunFor(100ms);
    return accepted_.size() >= 3;
  }));
  EXPECT_EQ(pool_->channels_up(), 0U);
  EXPECT_TRUE(changes_.empty());
  EXPECT_GE(reactor().counters().upgrades_refused.Get(), 2);
}

}  // namespace
}  // namespace tunnel::net
