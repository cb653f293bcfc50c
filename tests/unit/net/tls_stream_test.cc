#include "net/tls_stream.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <string>
#include <vector>

#include "net/limits.h"
#include "net/made_certificate.h"
#include "raw_tls_client.h"
#include "run_task.h"
#include "stream_fixture.h"

namespace tunnel::net {
namespace {

using std::chrono::system_clock;
using testing::HasSubstr;

constexpr const char* kName = "server.test";

// One server certificate for all tests: making it costs more than a test.
const TlsServerContext& ServerContext() {
  static const TlsServerContext* const context = [] {
    const std::vector<std::string> names = {kName};
    auto pair =
        MakeSelfSigned(names, system_clock::now() - std::chrono::hours(1), system_clock::now() + std::chrono::hours(1));
    EXPECT_TRUE(pair.ok()) << pair.status();
    auto made = TlsServerContext::FromPem(pair->certificate_pem, "cert", pair->key_pem.Reveal(), "key", {});
    EXPECT_TRUE(made.ok()) << made.status();
    return made->release();
  }();
  return *context;
}

std::unique_ptr<TlsClientContext> MakeClientContext(bool trusting) {
  TlsClientOptions options;
  options.pins.push_back(trusting ? ServerContext().pin() : Pin{});
  auto made = TlsClientContext::Create(options);
  EXPECT_TRUE(made.ok()) << made.status();
  return *std::move(made);
}

class TlsStreamTest : public ReactorTest {
 protected:
  void SetUp() override {
    ReactorTest::SetUp();
    if (reactor_ == nullptr) return;
    scope_ = std::make_unique<core::Scope>(reactor());
    Connect();
  }
  void TearDown() override {
    if (reactor_ == nullptr) return;
    scope_->Cancel();
    EXPECT_TRUE(RunUntil([&] { return scope_->empty(); }));
    server_.reset();
    client_.reset();
    raw_.reset();
    scope_.reset();
    ReactorTest::TearDown();
  }

  // A new server stream, its handshake begun, and the other end of its connection.
  void Connect() {
    server_.reset();
    raw_.reset();
    server_shaken_.reset();
    const auto [near, far] = core::testing::TcpPair();
    far_ = far;
    auto engine = TlsEngine::Server(ServerContext());
    ASSERT_TRUE(engine.ok());
    server_ = std::make_unique<TlsStream>(reactor(), core::StreamSocket(reactor(), near), *std::move(engine));
    scope_->Spawn(StoreResult(server_->Handshake(), &server_shaken_));
  }
  // The other end is BoringSSL's.
  void ShakeHandsWithRaw() {
    raw_ = std::make_unique<RawTlsClient>(far_);
    ASSERT_TRUE(RunRaw([&] { return raw_->done() && server_shaken_.has_value(); }));
    ASSERT_TRUE(server_shaken_->ok()) << *server_shaken_;
  }
  // The other end is ours too.
  void StartClient(const TlsClientContext& context) {
    client_shaken_.reset();
    auto engine = TlsEngine::Client(context, {.host = kName, .ech_config_list = {}, .alpn = {}});
    ASSERT_TRUE(engine.ok()) << engine.status();
    client_ = std::make_unique<TlsStream>(reactor(), core::StreamSocket(reactor(), far_), *std::move(engine));
    scope_->Spawn(StoreResult(client_->Handshake(), &client_shaken_));
  }
  void ShakeHands() {
    static const TlsClientContext* const context = MakeClientContext(true).release();
    StartClient(*context);
    ASSERT_TRUE(RunUntil([&] { return server_shaken_.has_value() && client_shaken_.has_value(); }));
    ASSERT_TRUE(server_shaken_->ok()) << *server_shaken_;
    ASSERT_TRUE(client_shaken_->ok()) << *client_shaken_;
  }
  [[nodiscard]] bool RunRaw(const std::function<bool()>& done) {
    return RunUntil([&] {
      raw_->Pump();
      return done();
    });
  }

  int far_ = -1;
  std::unique_ptr<TlsStream> server_;
  std::unique_ptr<TlsStream> client_;
  std::unique_ptr<RawTlsClient> raw_;
  std::optional<absl::Status> server_shaken_;
  std::optional<absl::Status> client_shaken_;
  StreamRecorder seen_;         // by server_
  StreamRecorder client_seen_;  // by client_
  std::unique_ptr<core::Scope> scope_;
};
TUNNEL_FOR_BOTH_BACKENDS(TlsStreamTest);

// --- the handshake ---

TEST_P(TlsStreamTest, CarriesBytesBothWaysUnderBackpressure) {
  ShakeHands();
  server_->SetHandler(&seen_);
  client_->SetHandler(&client_seen_);
  constexpr uint64_t kTotal = uint64_t{12} * 1024 * 1024;
  StreamSource up(reactor(), *client_, kTotal);
  StreamSource down(reactor(), *server_, kTotal);
  client_seen_.on_drained = [&] { up.Push(); };
  seen_.on_drained = [&] { down.Push(); };
  size_t most = 0;
  up.Push();
  down.Push();
  ASSERT_TRUE(RunUntil([&] {
    most = std::max({most, client_->queued_bytes(), server_->queued_bytes()});
    return seen_.received.size() == kTotal && client_seen_.received.size() == kTotal;
  }));
  for (const StreamRecorder* seen : {&seen_, &client_seen_}) {
    EXPECT_TRUE(Pattern::Matches(0, {reinterpret_cast<const uint8_t*>(seen->received.data()), seen->received.size()}));
    EXPECT_GE(seen->drains, 1);
  }
  EXPECT_LE(most, core::kSendHighWaterBytes + 2 * core::BufferPool::kMaxBlockBytes);
}

TEST_P(TlsStreamTest, TellsBothEndsWhyTheyDoNotTrust) {
  const auto context = MakeClientContext(false);
  StartClient(*context);
  ASSERT_TRUE(RunUntil([&] { return client_shaken_.has_value(); }));
  EXPECT_FALSE(client_shaken_->ok());
  EXPECT_EQ(client_->engine().failure().kind, TlsFailureKind::kCertificate);
  client_->CloseAfterSend(kCloseLimit);  // the alert
  client_.reset();
  ASSERT_TRUE(RunUntil([&] { return server_shaken_.has_value(); }));
  EXPECT_EQ(server_->engine().failure().kind, TlsFailureKind::kAlert) << *server_shaken_;
}

TEST_P(TlsStreamTest, FailsTheHandshakeWithThePeer) {
  struct Case {
    const char* what;
    std::function<void(RawPeer&)> act;
    const char* words;
  };
  const std::vector<Case> cases = {
      {"leaves", [](RawPeer& peer) { peer.FinishSend(); }, "closed the connection"},
      {"resets", [](RawPeer& peer) { peer.Reset(); }, "reset"},
      {"speaks HTTP", [](RawPeer& peer) { peer.Send("GET / HTTP/1.1\r\nHost: x\r\n\r\n"); }, "HTTP"},
      {"speaks something", [](RawPeer& peer) { peer.Send(std::string(100, '\xAA')); }, "not TLS"},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.what);
    if (server_shaken_.has_value()) Connect();
    RawPeer peer(far_);
    Settle();
    c.act(peer);
    ASSERT_TRUE(RunUntil([&] { return server_shaken_.has_value(); }));
    EXPECT_FALSE(server_shaken_->ok());
    EXPECT_THAT(std::string(MessageOf(*server_shaken_)), HasSubstr(c.words));
    server_->CloseAfterSend(kCloseLimit);
    server_.reset();
    peer.Close();
  }
}

TEST_P(TlsStreamTest, LetsGoWhenTheHandshakeIsInterrupted) {
  const RawPeer silent(far_);
  Settle();
  EXPECT_FALSE(server_shaken_.has_value());
  scope_->Cancel();
  ASSERT_TRUE(RunUntil([&] { return server_shaken_.has_value(); }));
  EXPECT_TRUE(absl::IsCancelled(*server_shaken_));
  server_.reset();
}

TEST_P(TlsStreamTest, KeepsForItsHandlerWhatCameWithTheHandshake) {
  raw_ = std::make_unique<RawTlsClient>(far_);
  // The client's last flight and its first data go out in one piece.
  ASSERT_TRUE(RunUntil([&] {
    raw_->Pump();
    if (!raw_->peer.received.empty()) raw_->Hold();
    return raw_->done();
  }));
  raw_->Send("early bird");
  raw_->Release();
  ASSERT_TRUE(RunRaw([&] { return server_shaken_.has_value(); }));
  Settle();
  server_->SetHandler(&seen_);
  ASSERT_TRUE(RunRaw([&] { return !seen_.received.empty(); }));
  EXPECT_EQ(seen_.received, "early bird");
}

// --- records ---

TEST_P(TlsStreamTest, PutsSmallWritesOfATurnIntoOneRecord) {
  ShakeHandsWithRaw();
  server_->SetHandler(&seen_);
  std::string all;
  for (int i = 0; i < 100; ++i) {
    const std::string text = fmt::format("message {};", i);
    server_->Send(Bytes(text));
    all += text;
  }
  EXPECT_EQ(server_->queued_bytes(), all.size()) << "what waits for the turn's end counts";
  ASSERT_TRUE(RunRaw([&] { return raw_->received.size() == all.size(); }));
  EXPECT_EQ(raw_->received, all);
  EXPECT_EQ(raw_->records(), 1);
  // A further turn is a further record: nothing waits for company.
  server_->Send(Bytes("x"));
  ASSERT_TRUE(RunRaw([&] { return raw_->received.size() == all.size() + 1; }));
  EXPECT_EQ(raw_->records(), 2);
}

TEST_P(TlsStreamTest, KeepsTheOrderOfSmallAndLargeWrites) {
  ShakeHandsWithRaw();
  server_->SetHandler(&seen_);
  std::string all;
  uint64_t at = 0;
  for (const size_t size : {1, 4095, 4096, 10, 20000, 3, 3, 65536, 1, 4095, 4095, 4095, 4095, 4095, 2}) {
    const std::string text = Pattern::Text(at, size);
    at += size;
    server_->Send(Bytes(text));
    all += text;
  }
  ASSERT_TRUE(RunRaw([&] { return raw_->received.size() >= all.size(); }));
  EXPECT_TRUE(raw_->received == all);
}

TEST_P(TlsStreamTest, AnswersAKeyUpdateAndGoesOn) {
  ShakeHandsWithRaw();
  server_->SetHandler(&seen_);
  raw_->RequestKeyUpdate();
  raw_->Send("under the new key");
  ASSERT_TRUE(RunRaw([&] { return !seen_.received.empty(); }));
  EXPECT_EQ(seen_.received, "under the new key");
  server_->Send(Bytes("so is this"));
  ASSERT_TRUE(RunRaw([&] { return !raw_->received.empty(); }));
  EXPECT_EQ(raw_->received, "so is this");
}

// --- reading ---

TEST_P(TlsStreamTest, DeliversNothingWhilePaused) {
  ShakeHandsWithRaw();
  server_->SetHandler(&seen_);
  server_->PauseReceive();
  raw_->Send("kept ");
  ASSERT_TRUE(RunRaw([] { return true; }));
  Settle();
  EXPECT_EQ(seen_.received, "");
  server_->ResumeReceive();
  raw_->Send("back");
  ASSERT_TRUE(RunRaw([&] { return seen_.received == "kept back"; }));
}

TEST_P(TlsStreamTest, StopsInTheMiddleOfWhatItHasDecrypted) {
  ShakeHandsWithRaw();
  server_->SetHandler(&seen_);
  seen_.on_data = [&] { server_->PauseReceive(); };
  // Several records, more than one read's worth, that arrive together.
  const std::string text = Pattern::Text(0, 150000);
  raw_->Send(text);
  ASSERT_TRUE(RunRaw([&] { return seen_.calls == 1; }));
  Settle();
  EXPECT_EQ(seen_.calls, 1) << "a pause inside the callback holds";
  while (seen_.received.size() < text.size()) {
    const int before = seen_.calls;
    server_->ResumeReceive();
    ASSERT_TRUE(RunRaw([&] { return seen_.calls > before; }));
  }
  EXPECT_TRUE(seen_.received == text);
}

TEST_P(TlsStreamTest, StopsItsPeerWhilePaused) {
  ShakeHands();
  server_->SetHandler(&seen_);
  server_->PauseReceive();
  client_->SetHandler(&client_seen_);
  // More than kernel and queue hold.
  StreamSource source(reactor(), *client_, uint64_t{64} * 1024 * 1024);
  client_seen_.on_drained = [&] { source.Push(); };
  source.Push();
  uint64_t before = UINT64_MAX;
  ASSERT_TRUE(RunUntil([&] {
    Settle();
    return std::exchange(before, source.sent()) == source.sent();
  }));
  EXPECT_FALSE(source.done());
  EXPECT_EQ(seen_.calls, 0);
  EXPECT_LE(reactor().counters().buffer_bytes_in_use.Get(), 4 * 1024 * 1024);
  client_->Abort();
}

// --- ends ---

TEST_P(TlsStreamTest, HalfClosesWithCloseNotify) {
  ShakeHands();
  server_->SetHandler(&seen_);
  client_->SetHandler(&client_seen_);
  client_->Send(Bytes("question"));
  client_->FinishSend();
  ASSERT_TRUE(RunUntil([&] { return seen_.ends == 1; }));
  EXPECT_EQ(seen_.received, "question");
  server_->Send(Bytes("answer"));
  server_->FinishSend();
  ASSERT_TRUE(RunUntil([&] { return client_seen_.ends == 1; }));
  EXPECT_EQ(client_seen_.received, "answer");
  Settle();
  EXPECT_FALSE(seen_.dead.has_value());
  EXPECT_FALSE(client_seen_.dead.has_value());
}

TEST_P(TlsStreamTest, HoldsBackAnEndWhilePaused) {
  ShakeHandsWithRaw();
  server_->SetHandler(&seen_);
  server_->PauseReceive();
  raw_->Send("last");
  raw_->SendCloseNotify();
  raw_->peer.FinishSend();
  Settle();
  EXPECT_EQ(seen_.calls + seen_.ends, 0);
  server_->ResumeReceive();
  ASSERT_TRUE(RunRaw([&] { return seen_.ends == 1; }));
  EXPECT_EQ(seen_.received, "last");
  EXPECT_FALSE(seen_.dead.has_value());
}

// RFC 8446 section 6.1: whoever cuts a connection can do it only without close_notify.
TEST_P(TlsStreamTest, TakesATruncationForADeath) {
  for (const bool reset : {false, true}) {
    for (const bool paused : {false, true}) {
      SCOPED_TRACE(testing::Message() << "reset " << reset << ", paused " << paused);
      if (raw_ != nullptr) Connect();
      ShakeHandsWithRaw();
      StreamRecorder seen;
      server_->SetHandler(&seen);
      raw_->Send("all but the end");
      if (paused) {
        server_->PauseReceive();
      } else {
        ASSERT_TRUE(RunRaw([&] { return !seen.received.empty(); }));
      }
      if (reset) {
        raw_->peer.Reset();
      } else {
        raw_->peer.FinishSend();
      }
      Settle();
      server_->ResumeReceive();
      ASSERT_TRUE(RunUntil([&] { return seen.dead.has_value(); }));
      EXPECT_FALSE(seen.dead->ok());
      EXPECT_EQ(seen.ends, 0);
      if (!reset) {
        EXPECT_EQ(seen.received, "all but the end");
      }
      server_->Send(Bytes("into the void"));
      server_->FinishSend();
      server_.reset();
    }
  }
}

TEST_P(TlsStreamTest, DiesOfARecordThatIsNone) {
  ShakeHandsWithRaw();
  server_->SetHandler(&seen_);
  raw_->Send("good");
  ASSERT_TRUE(RunRaw([&] { return seen_.received == "good"; }));
  raw_->peer.Send(std::string("\x17\x03\x03\x00\x20", 5) + std::string(32, 'x'));
  ASSERT_TRUE(RunUntil([&] { return seen_.dead.has_value(); }));
  EXPECT_FALSE(seen_.dead->ok());
  EXPECT_EQ(seen_.ends, 0);
  server_->CloseAfterSend(kCloseLimit);
  ASSERT_TRUE(RunRaw([&] { return raw_->peer.ended || raw_->peer.error != 0; }));
  EXPECT_FALSE(raw_->closed) << "an alert is not an end";
}

TEST_P(TlsStreamTest, IgnoresWhatComesBehindCloseNotify) {
  ShakeHandsWithRaw();
  server_->SetHandler(&seen_);
  raw_->SendCloseNotify();
  ASSERT_TRUE(RunRaw([&] { return seen_.ends == 1; }));
  // RFC 8446 section 6.1: data behind a closure alert must be ignored. It must not pile up either.
  for (int i = 0; i < 50; ++i) {
    (void)raw_->peer.SendSome(std::string("\x17\x03\x03\x40\x00", 5) + std::string(16384, 'x'));
    Settle();
  }
  EXPECT_EQ(server_->engine().UnreadInput().size(), 0U);
  EXPECT_FALSE(seen_.dead.has_value());
  // Ours still reaches it.
  server_->Send(Bytes("answer"));
  ASSERT_TRUE(RunRaw([&] { return raw_->received == "answer"; }));
}

TEST_P(TlsStreamTest, SurvivesWhatAPeerAsksForBehindOurEnd) {
  ShakeHandsWithRaw();
  server_->SetHandler(&seen_);
  server_->FinishSend();
  ASSERT_TRUE(RunRaw([&] { return raw_->closed; }));
  // Nothing may be sent any more, whatever wants an answer: a KeyUpdate, and what earns an alert.
  raw_->RequestKeyUpdate();
  raw_->Send("still talking");
  ASSERT_TRUE(RunRaw([&] { return seen_.received == "still talking"; }));
  raw_->peer.Send(std::string("\x17\x03\x03\x00\x20", 5) + std::string(32, 'x'));
  ASSERT_TRUE(RunUntil([&] { return seen_.dead.has_value(); }));
  EXPECT_FALSE(seen_.dead->ok());
}

TEST_P(TlsStreamTest, DeliversWhatIsQueuedWhenItCloses) {
  ShakeHandsWithRaw();
  server_->SetHandler(&seen_);
  const std::string large = Pattern::Text(0, 65536);
  std::string all;
  for (int i = 0; i < 20; ++i) {
    server_->Send(Bytes(large));
    server_->Send(Bytes("small"));
    all += large + "small";
  }
  server_->CloseAfterSend(kFlushLimit);
  server_.reset();
  ASSERT_TRUE(RunRaw([&] { return raw_->closed && raw_->peer.ended; }));
  EXPECT_TRUE(raw_->received == all);
  EXPECT_EQ(raw_->peer.error, 0);
  raw_->peer.Close();
}

TEST_P(TlsStreamTest, IsToldFromAnOrderlyEndWhenAbortedOrDestroyed) {
  for (const bool abort : {true, false}) {
    if (raw_ != nullptr) Connect();
    ShakeHandsWithRaw();
    server_->SetHandler(&seen_);
    server_->Send(Bytes("half of it"));
    ASSERT_TRUE(RunRaw([&] { return raw_->received == "half of it"; }));
    if (abort) {
      server_->Abort();
    } else {
      server_.reset();
    }
    ASSERT_TRUE(RunRaw([&] { return raw_->peer.ended || raw_->peer.error != 0; }));
    EXPECT_FALSE(raw_->closed) << (abort ? "aborted" : "destroyed");
    EXPECT_FALSE(seen_.dead.has_value()) << "its owner knows";
  }
}

TEST_P(TlsStreamTest, HandsOverToAnotherHandler) {
  ShakeHandsWithRaw();
  StreamRecorder next;
  server_->SetHandler(&seen_);
  raw_->Send("first");
  ASSERT_TRUE(RunRaw([&] { return seen_.received == "first"; }));
  server_->SetHandler(nullptr);
  raw_->Send("second");
  raw_->SendCloseNotify();
  Settle();
  EXPECT_EQ(seen_.received, "first");
  server_->SetHandler(&next);
  ASSERT_TRUE(RunRaw([&] { return next.ends == 1; }));
  EXPECT_EQ(next.received, "second");
  EXPECT_EQ(seen_.ends, 0);
}

TEST_P(TlsStreamTest, MayBeDestroyedFromItsCallbacks) {
  for (const char* what : {"data", "data with an end", "end", "drained", "dead"}) {
    SCOPED_TRACE(what);
    const std::string_view where = what;
    if (raw_ != nullptr) Connect();
    ShakeHandsWithRaw();
    StreamRecorder seen;
    server_->SetHandler(&seen);
    const auto destroy = [&] { server_.reset(); };
    if (where.starts_with("data")) seen.on_data = destroy;
    if (where == "end") seen.on_end = destroy;
    if (where == "drained") seen.on_drained = destroy;
    if (where == "dead") seen.on_dead = destroy;
    StreamSource source(reactor(), *server_, uint64_t{8} * 1024 * 1024);
    if (where != "drained") {
      raw_->Hold();
      raw_->Send(std::string(60000, 'x'));
      raw_->Release();
    }
    if (where == "end" || where == "data with an end") raw_->SendCloseNotify();
    if (where == "dead") raw_->peer.FinishSend();
    if (where == "drained") source.Push();
    ASSERT_TRUE(RunRaw([&] { return server_ == nullptr; }));
    if (where.starts_with("data")) {
      EXPECT_EQ(seen.calls, 1);
    }
  }
}

}  // namespace
}  // namespace tunnel::net
