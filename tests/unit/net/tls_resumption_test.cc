// Coming back with a ticket, and what may be sent before the handshake is over.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "net/ticket_keys.h"
#include "tests/unit/net/tls_engine_fixture.h"

namespace tunnel::net {
namespace {

using ::testing::HasSubstr;

constexpr const char* kFirst = "GET /first HTTP/1.1";

class TlsResumptionTest : public TlsEngineTest {
 protected:
  void SetUp() override {
    TlsEngineTest::SetUp();
    auto keys = TicketKeys::Create();
    ASSERT_TRUE(keys.ok()) << keys.status();
    keys_ = *std::move(keys);
    server_context_->ResumeWith(keys_);
    UseClient({.ca_file = ca_, .alpn = {"http/1.1"}, .resume = true});
    list_ = UseEch();
  }
  [[nodiscard]] TlsClientHandshake Handshake() const {
    return {.host = kInner, .ech_config_list = list_, .first_flight = kFirst};
  }
  // A connection from beginning to end; the client has two more tickets then.
  void Visit() {
    Connect(Handshake());
    Shake();
    ExpectBothDone();
    EXPECT_EQ(Receive(*client_, *server_), kFirst);
    ASSERT_TRUE(server_->WritePlaintext(std::vector<uint8_t>{'o', 'k'}).ok());
    EXPECT_EQ(Receive(*server_, *client_), "ok");
  }
  // The client's first flight alone.
  Bytes Hello() {
    EXPECT_EQ(client_->Handshake(), State::kWant) << client_->failure().status;
    return client_->TakeOutput();
  }
  static std::string Read(TlsEngine& from) {
    Bytes out(100);
    const auto result = from.ReadPlaintext(out);
    return result.state == TlsEngine::ReadState::kData ? std::string(out.begin(), out.begin() + result.bytes) : "";
  }

  std::shared_ptr<TicketKeys> keys_;
  Bytes list_;
};

TEST_F(TlsResumptionTest, TheFirstConnectionSendsItsFirstFlightBehindTheHandshake) {
  Connect(Handshake());
  Shake();
  ExpectBothDone();
  EXPECT_FALSE(client_->resumed());
  EXPECT_FALSE(server_->early_data_accepted());
  EXPECT_TRUE(server_->confirmed());
  EXPECT_EQ(Receive(*client_, *server_), kFirst);
}

TEST_F(TlsResumptionTest, TheSecondArrivesWithTheClientHello) {
  Visit();
  Connect(Handshake());
  const Bytes hello = Hello();
  EXPECT_FALSE(Contains(hello, kInner));
  EXPECT_TRUE(Contains(hello, kOuter));
  EXPECT_FALSE(Contains(hello, kFirst));

  ASSERT_EQ(Deliver(*server_, hello, SIZE_MAX), State::kDone) << server_->failure().status;
  EXPECT_TRUE(server_->ech_accepted());
  EXPECT_EQ(Read(*server_), kFirst);
  EXPECT_FALSE(server_->confirmed());
  // The answer goes out before the client has said anything more.
  ASSERT_TRUE(server_->WritePlaintext(std::vector<uint8_t>{'o', 'k'}).ok());
  const Bytes answer = server_->TakeOutput();
  client_->FeedCiphertext(answer);
  ASSERT_EQ(client_->Handshake(), State::kDone) << client_->failure().status;
  EXPECT_TRUE(client_->ech_accepted());
  EXPECT_TRUE(client_->early_data_accepted());
  EXPECT_THAT(client_->Describe(), HasSubstr("0-RTT"));
  EXPECT_EQ(Read(*client_), "ok");

  const Bytes finished = client_->TakeOutput();
  server_->FeedCiphertext(finished);
  EXPECT_EQ(Read(*server_), "");
  EXPECT_TRUE(server_->confirmed());
  ASSERT_TRUE(client_->WritePlaintext(std::vector<uint8_t>{'m', 'e'}).ok());
  EXPECT_EQ(Receive(*client_, *server_), "me") << "the first flight is not sent again";
}

TEST_F(TlsResumptionTest, ARecordingIsNeverConfirmed) {
  Visit();
  Connect(Handshake());
  const Bytes recorded = Hello();
  for (int i = 0; i < 3; ++i) {
    auto server = TlsEngine::Server(*server_context_);
    ASSERT_TRUE(server.ok());
    ASSERT_EQ(Deliver(**server, recorded, SIZE_MAX), State::kDone);
    EXPECT_EQ(Read(**server), kFirst);
    EXPECT_FALSE((*server)->confirmed());
    (*server)->FeedEnd();
    EXPECT_EQ(Read(**server), "");
    EXPECT_FALSE((*server)->confirmed());
    EXPECT_EQ((*server)->failure().kind, TlsFailureKind::kClosed);
  }
}

TEST_F(TlsResumptionTest, ARecordingOfAllOfItFails) {
  Visit();
  Connect(Handshake());
  Shake();
  ExpectBothDone();
  EXPECT_EQ(Read(*server_), kFirst);
  ASSERT_TRUE(client_->WritePlaintext(std::vector<uint8_t>{'m', 'e'}).ok());
  const Bytes more = client_->TakeOutput();
  to_server_.insert(to_server_.end(), more.begin(), more.end());
  auto server = TlsEngine::Server(*server_context_);
  ASSERT_TRUE(server.ok());
  (*server)->FeedCiphertext(to_server_);
  ASSERT_EQ((*server)->Handshake(), State::kDone);
  EXPECT_EQ(Read(**server), kFirst);
  EXPECT_FALSE((*server)->confirmed());
  EXPECT_TRUE((*server)->HasMore());
  EXPECT_EQ(Read(**server), "");
  EXPECT_EQ((*server)->failure().kind, TlsFailureKind::kProtocol) << (*server)->failure().status;
  EXPECT_FALSE((*server)->confirmed());
}

TEST_F(TlsResumptionTest, EveryPieceOfTheFlight) {
  for (const size_t piece : {1, 7, 100}) {
    Visit();
    Connect(Handshake());
    Shake(piece);
    ExpectBothDone();
    EXPECT_TRUE(client_->early_data_accepted()) << piece;
    // The server is done before it has read all that came; what is left is read with the data.
    EXPECT_EQ(Read(*server_), kFirst);
    EXPECT_EQ(Read(*server_), "");
    EXPECT_TRUE(server_->confirmed());
  }
}

TEST_F(TlsResumptionTest, TicketsAreUsedOnce) {
  Visit();
  EXPECT_NE(client_context_->tickets()->Take(kInner), nullptr);
  EXPECT_NE(client_context_->tickets()->Take(kInner), nullptr);
  EXPECT_EQ(client_context_->tickets()->Take(kInner), nullptr);
  Connect(Handshake());
  Shake();
  EXPECT_FALSE(client_->resumed());
}

TEST_F(TlsResumptionTest, TicketsAreOfOneHost) {
  Visit();
  EXPECT_EQ(client_context_->tickets()->Take("other.test"), nullptr);
}

TEST_F(TlsResumptionTest, OnlySoManyAreKept) {
  for (size_t i = 0; i < TlsTickets::kLimit; ++i) {
    Visit();
    if (HasFailure()) return;
  }
  size_t kept = 0;
  while (client_context_->tickets()->Take(kInner) != nullptr) ++kept;
  EXPECT_LE(kept, TlsTickets::kLimit);
}

TEST_F(TlsResumptionTest, WhatTheServerForgotIsSentAgainBehindTheHandshake) {
  Visit();
  ASSERT_TRUE(keys_->Rotate().ok());
  ASSERT_TRUE(keys_->Rotate().ok());
  Connect(Handshake());
  Shake();
  ExpectBothDone();
  EXPECT_FALSE(client_->resumed());
  EXPECT_FALSE(client_->early_data_accepted());
  EXPECT_TRUE(client_->ech_accepted());
  EXPECT_EQ(Receive(*client_, *server_), kFirst);
  EXPECT_TRUE(server_->confirmed());
}

TEST_F(TlsResumptionTest, ARotationKeepsTheTicketsThatAreOut) {
  Visit();
  ASSERT_TRUE(keys_->Rotate().ok());
  Connect(Handshake());
  Shake();
  ExpectBothDone();
  EXPECT_TRUE(client_->early_data_accepted());
}

TEST_F(TlsResumptionTest, AnotherCoresContextTakesTheTicket) {
  Visit();
  const std::unique_ptr<TlsServerContext> first = std::move(server_context_);
  const std::filesystem::path ca = ca_;
  UseCertificate({kInner, kOuter}, std::chrono::system_clock::now() - std::chrono::hours(1),
                 std::chrono::system_clock::now() + std::chrono::hours(1));
  server_context_->ResumeWith(keys_);
  list_ = UseEch();
  Connect(Handshake());
  Shake();
  ExpectBothDone();
  EXPECT_TRUE(client_->early_data_accepted());
}

TEST_F(TlsResumptionTest, RejectedEchRejectsTheFlightToo) {
  Visit();
  const Bytes stale = list_;
  list_ = UseEch();
  const Bytes current = list_;
  list_ = stale;
  Connect(Handshake());
  Shake();
  EXPECT_EQ(client_state_, State::kFailed);
  EXPECT_EQ(client_->failure().kind, TlsFailureKind::kEchRejected) << client_->failure().status;
  EXPECT_EQ(client_->failure().retry_configs, current);
  EXPECT_FALSE(Contains(to_server_, kInner));
  list_ = current;
  Connect(Handshake());
  Shake();
  ExpectBothDone();
  EXPECT_TRUE(client_->ech_accepted());
  EXPECT_TRUE(client_->early_data_accepted()) << "the other ticket is still good";
}

TEST_F(TlsResumptionTest, ATicketIsOpaqueAndMayNotBeTouched) {
  Visit();
  // The server's own session, sealed: neither name is in what crossed the wire, nor in the ticket.
  const auto session = client_context_->tickets()->Take(kInner);
  ASSERT_NE(session, nullptr);
  const uint8_t* ticket = nullptr;
  size_t length = 0;
  SSL_SESSION_get0_ticket(session.get(), &ticket, &length);
  const Bytes good(ticket, ticket + length);
  EXPECT_FALSE(Contains(good, kInner));
  for (size_t at = 0; at < good.size(); at += 5) {
    Bytes bad = good;
    bad[at] ^= 1;
    bssl::UniquePtr<SSL_SESSION> copy(SSL_SESSION_copy_without_early_data(session.get()));
    ASSERT_EQ(SSL_SESSION_set_ticket(copy.get(), bad.data(), bad.size()), 1);
    client_context_->tickets()->Add(kInner, std::move(copy));
    Connect(Handshake());
    Shake();
    ExpectBothDone();
    EXPECT_FALSE(client_->resumed()) << at;
    while (client_context_->tickets()->Take(kInner) != nullptr) {
    }
  }
}

TEST_F(TlsResumptionTest, ALongFirstFlightWaits) {
  Visit();
  TlsClientHandshake handshake = Handshake();
  handshake.first_flight.assign(20000, 'x');
  Connect(handshake);
  Shake();
  ExpectBothDone();
  EXPECT_TRUE(client_->resumed());
  EXPECT_FALSE(client_->early_data_accepted());
  EXPECT_EQ(Receive(*client_, *server_).size(), 20000U);
}

TEST_F(TlsResumptionTest, AServerWithoutKeysGivesNoTickets) {
  UseCertificate({kInner, kOuter}, std::chrono::system_clock::now() - std::chrono::hours(1),
                 std::chrono::system_clock::now() + std::chrono::hours(1));
  list_ = UseEch();
  UseClient({.ca_file = ca_, .alpn = {"http/1.1"}, .resume = true});
  Visit();
  EXPECT_EQ(client_context_->tickets()->Take(kInner), nullptr);
}

}  // namespace
}  // namespace tunnel::net
