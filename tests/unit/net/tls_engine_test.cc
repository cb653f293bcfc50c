#include "net/tls_engine.h"

#include <set>

#include "tests/unit/as_bytes.h"
#include "tests/unit/net/tls_engine_fixture.h"

namespace tunnel::net {
namespace {

using std::chrono::hours;
using std::chrono::system_clock;
using ::testing::HasSubstr;

TEST_F(TlsEngineTest, WithoutEchTheNameIsVisible) {
  Connect({.host = kInner});
  Shake();
  ExpectBothDone();
  EXPECT_TRUE(Contains(to_server_, kInner));
  EXPECT_FALSE(client_->ech_accepted());
  EXPECT_TRUE(server_->ech_offered()) << "GREASE cannot be told from it";
  EXPECT_EQ(client_->alpn(), "http/1.1");
  EXPECT_EQ(server_->alpn(), "http/1.1");
  EXPECT_EQ(server_->server_name(), kInner);
  EXPECT_THAT(client_->Describe(), HasSubstr("TLSv1.3 TLS_"));
}

TEST_F(TlsEngineTest, WithEchTheOuterNameIsVisibleAndTheInnerIsNot) {
  const Bytes list = UseEch();
  Connect({.host = kInner, .ech_config_list = list});
  Shake();
  ExpectBothDone();
  EXPECT_TRUE(client_->ech_accepted());
  EXPECT_TRUE(server_->ech_offered());
  EXPECT_TRUE(server_->ech_accepted());
  EXPECT_EQ(server_->server_name(), kInner);
  EXPECT_TRUE(Contains(to_server_, kOuter));
  EXPECT_FALSE(Contains(to_server_, kInner));
  EXPECT_FALSE(Contains(to_server_, "secret"));
}

TEST_F(TlsEngineTest, TheLengthOfTheNameIsHidden) {
  // Up to maximum_name_length, which keys here have as 64, every name makes a ClientHello of the same length.
  const Bytes list = UseEch();
  std::set<size_t> lengths;
  for (const size_t length : {size_t{4}, size_t{5}, size_t{17}, size_t{40}, size_t{63}, size_t{64}}) {
    std::string name(length, 'a');
    name[length / 2] = '.';
    Connect({.host = name, .ech_config_list = list});
    EXPECT_EQ(client_->Handshake(), State::kWant);
    lengths.insert(client_->TakeOutput().size());
  }
  EXPECT_EQ(lengths.size(), 1U);
  Connect({.host = std::string(60, 'a') + "." + std::string(60, 'b'), .ech_config_list = list});
  EXPECT_EQ(client_->Handshake(), State::kWant);
  EXPECT_FALSE(lengths.contains(client_->TakeOutput().size())) << "the control: a longer name shows";
}

TEST_F(TlsEngineTest, RejectionGivesRetryConfigsThatAreAccepted) {
  const Bytes old_list = UseEch();
  const Bytes new_list = UseEch();
  Connect({.host = kInner, .ech_config_list = old_list});
  Shake();
  ExpectClientFails(TlsFailureKind::kEchRejected, kOuter);
  EXPECT_EQ(client_->failure().retry_configs, new_list);
  EXPECT_EQ(client_->failure().outer_name, kOuter);
  EXPECT_FALSE(Contains(to_server_, kInner));
  // To the server it is a whole handshake for the outer name, ended by an alert.
  EXPECT_EQ(server_state_, State::kDone);
  EXPECT_TRUE(server_->ech_offered());
  EXPECT_FALSE(server_->ech_accepted());
  EXPECT_EQ(server_->server_name(), kOuter);
  Bytes out(10);
  EXPECT_EQ(server_->ReadPlaintext(out).state, TlsEngine::ReadState::kError);
  EXPECT_EQ(server_->failure().kind, TlsFailureKind::kAlert);
  EXPECT_THAT(std::string(MessageOf(server_->failure().status)), HasSubstr("ech_required"));

  Connect({.host = kInner, .ech_config_list = client_->failure().retry_configs});
  Shake();
  ExpectBothDone();
  EXPECT_TRUE(client_->ech_accepted());
}

TEST_F(TlsEngineTest, RejectionByAServerWithoutEch) {
  Connect({.host = kInner, .ech_config_list = MakeKey().ConfigListBytes()});
  Shake();
  ExpectClientFails(TlsFailureKind::kEchRejected, "no configs");
  EXPECT_TRUE(client_->failure().retry_configs.empty());
}

TEST_F(TlsEngineTest, RejectionCountsOnlyFromTheOuterName) {
  UseCertificate({kInner}, system_clock::now() - hours(1), system_clock::now() + hours(1));
  UseEch();
  Connect({.host = kInner, .ech_config_list = MakeKey().ConfigListBytes()});
  Shake();
  ExpectClientFails(TlsFailureKind::kCertificate, "does not prove to be outer.public.test");
  EXPECT_TRUE(client_->failure().retry_configs.empty());
}

TEST_F(TlsEngineTest, UnusableEchListIsNoWayBackToPlainTls) {
  UseClient({.ca_file = ca_});
  EXPECT_FALSE(TlsEngine::Client(*client_context_, {.host = kInner, .ech_config_list = {1, 2, 3}}).ok());
  EXPECT_FALSE(
      TlsEngine::Client(*client_context_, {.host = kInner, .ech_config_list = {0, 5, 0xfe, 0x0c, 0, 1, 0}}).ok());
  EXPECT_FALSE(TlsEngine::Client(*client_context_, {.host = "."}).ok());
}

TEST_F(TlsEngineTest, ByteByByteIsTheSame) {
  const Bytes list = UseEch();
  Connect({.host = kInner, .ech_config_list = list});
  Shake(1);
  ExpectBothDone();
  EXPECT_TRUE(client_->ech_accepted());
  ASSERT_TRUE(client_->WritePlaintext(AsBytes("hello")).ok());
  EXPECT_EQ(Receive(*client_, *server_, 1), "hello");
  ASSERT_TRUE(server_->WritePlaintext(AsBytes("world")).ok());
  EXPECT_EQ(Receive(*server_, *client_, 1), "world");
}

TEST_F(TlsEngineTest, DataBehindTheFinishedIsNotLost) {
  Connect({.host = kInner});
  ASSERT_EQ(client_->Handshake(), State::kWant);
  const Bytes hello = client_->TakeOutput();
  server_->FeedCiphertext(hello);
  ASSERT_EQ(server_->Handshake(), State::kWant);
  const Bytes flight = server_->TakeOutput();
  client_->FeedCiphertext(flight);
  ASSERT_EQ(client_->Handshake(), State::kDone);
  ASSERT_TRUE(client_->WritePlaintext(AsBytes("first")).ok());
  const Bytes rest = client_->TakeOutput();
  server_->FeedCiphertext(rest);
  ASSERT_EQ(server_->Handshake(), State::kDone);
  EXPECT_FALSE(server_->UnreadInput().empty());
  Bytes out(100);
  const auto result = server_->ReadPlaintext(out);
  EXPECT_EQ(result.state, TlsEngine::ReadState::kData);
  EXPECT_EQ(result.bytes, 5U);
  EXPECT_TRUE(server_->UnreadInput().empty());
  EXPECT_EQ(server_->ReadPlaintext(out).state, TlsEngine::ReadState::kNeedMore);
}

TEST_F(TlsEngineTest, AMegabyteBothWays) {
  Connect({.host = kInner});
  Shake();
  ExpectBothDone();
  std::string payload(size_t{1} << 20, '\0');
  for (size_t i = 0; i < payload.size(); ++i) payload[i] = static_cast<char>(i * 131 >> 3);
  for (const size_t piece : {SIZE_MAX, size_t{65536}, size_t{1000}}) {
    ASSERT_TRUE(client_->WritePlaintext(AsBytes(payload)).ok());
    EXPECT_TRUE(Receive(*client_, *server_, piece) == payload);
    ASSERT_TRUE(server_->WritePlaintext(AsBytes(payload)).ok());
    EXPECT_TRUE(Receive(*server_, *client_, piece, 100'000) == payload);
  }
  EXPECT_TRUE(client_->PendingOutput().empty());
}

TEST_F(TlsEngineTest, OutputIsDrainedInAnyPieces) {
  Connect({.host = kInner});
  Shake();
  ASSERT_TRUE(client_->WritePlaintext(AsBytes("one")).ok());
  Bytes sent(client_->PendingOutput().begin(), client_->PendingOutput().begin() + 10);
  client_->ConsumeOutput(10);
  ASSERT_TRUE(client_->WritePlaintext(AsBytes("two")).ok());
  sent.insert(sent.end(), client_->PendingOutput().begin(), client_->PendingOutput().end());
  client_->ConsumeOutput(client_->PendingOutput().size());
  EXPECT_TRUE(client_->PendingOutput().empty());
  server_->FeedCiphertext(sent);
  Bytes out(6);
  EXPECT_EQ(server_->ReadPlaintext(out).bytes, 6U);
  EXPECT_EQ(std::string(out.begin(), out.end()), "onetwo");
}

TEST_F(TlsEngineTest, CloseNotifyIsTold) {
  Connect({.host = kInner});
  Shake();
  ASSERT_TRUE(client_->WritePlaintext(AsBytes("bye")).ok());
  client_->Shutdown();
  client_->Shutdown();
  EXPECT_FALSE(client_->WritePlaintext(AsBytes("x")).ok());
  const Bytes sent = client_->TakeOutput();
  server_->FeedCiphertext(sent);
  Bytes out(10);
  EXPECT_EQ(server_->ReadPlaintext(out).bytes, 3U);
  EXPECT_EQ(server_->ReadPlaintext(out).state, TlsEngine::ReadState::kClosed);
  EXPECT_EQ(server_->ReadPlaintext(out).state, TlsEngine::ReadState::kClosed);
  // The other direction is still open.
  ASSERT_TRUE(server_->WritePlaintext(AsBytes("last words")).ok());
  EXPECT_EQ(Receive(*server_, *client_), "last words");
}

TEST_F(TlsEngineTest, AnEndWithoutCloseNotifyIsAFailure) {
  Connect({.host = kInner});
  Shake();
  server_->FeedEnd();
  Bytes out(10);
  EXPECT_EQ(server_->ReadPlaintext(out).state, TlsEngine::ReadState::kError);
  EXPECT_EQ(server_->failure().kind, TlsFailureKind::kClosed);
  Connect({.host = kInner});
  EXPECT_EQ(client_->Handshake(), State::kWant);
  client_->FeedEnd();
  EXPECT_EQ(client_->Handshake(), State::kFailed);
  EXPECT_EQ(client_->failure().kind, TlsFailureKind::kClosed);
  EXPECT_THAT(std::string(MessageOf(client_->failure().status)), HasSubstr("during the TLS handshake"));
}

TEST_F(TlsEngineTest, AlteredRecordEndsTheConnection) {
  Connect({.host = kInner});
  Shake();
  ASSERT_TRUE(client_->WritePlaintext(AsBytes("fine")).ok());
  const Bytes fine = client_->TakeOutput();
  ASSERT_TRUE(client_->WritePlaintext(AsBytes("altered")).ok());
  Bytes sent = client_->TakeOutput();
  sent.back() ^= 1;
  sent.insert(sent.begin(), fine.begin(), fine.end());
  server_->FeedCiphertext(sent);
  Bytes out(100);
  EXPECT_EQ(server_->ReadPlaintext(out).bytes, 4U);
  EXPECT_EQ(server_->ReadPlaintext(out).state, TlsEngine::ReadState::kError);
  EXPECT_EQ(server_->failure().kind, TlsFailureKind::kProtocol);
  EXPECT_FALSE(server_->PendingOutput().empty());  // the alert
  EXPECT_FALSE(server_->WritePlaintext(AsBytes("x")).ok());
}

TEST_F(TlsEngineTest, CertificateOfAnotherAuthority) {
  UseClient({.ca_file = ca_});
  UseCertificate({kInner}, system_clock::now() - hours(1), system_clock::now() + hours(1));
  Connect({.host = kInner});
  Shake();
  ExpectClientFails(TlsFailureKind::kCertificate, "does not trust");
  EXPECT_EQ(server_->failure().kind, TlsFailureKind::kAlert);
  EXPECT_THAT(std::string(MessageOf(server_->failure().status)), HasSubstr("unknown_CA"));
}

TEST_F(TlsEngineTest, ExpiredAndNotYetValid) {
  UseCertificate({kInner}, system_clock::now() - hours(10), system_clock::now() - hours(1));
  Connect({.host = kInner});
  Shake();
  ExpectClientFails(TlsFailureKind::kCertificate, "expired on");
  UseCertificate({kInner}, system_clock::now() + hours(1), system_clock::now() + hours(2));
  UseClient({.ca_file = ca_});
  Connect({.host = kInner});
  Shake();
  ExpectClientFails(TlsFailureKind::kCertificate, "valid only from");
}

TEST_F(TlsEngineTest, NameMismatchSaysBothNames) {
  Connect({.host = "other.test"});
  Shake();
  ExpectClientFails(TlsFailureKind::kCertificate, "outer.public.test, 127.0.0.1, ::1, not for other.test");
}

TEST_F(TlsEngineTest, AddressesAreCheckedAndNotSentAsNames) {
  for (const char* host : {"127.0.0.1", "::1"}) {
    Connect({.host = host});
    Shake();
    ExpectBothDone();
    EXPECT_EQ(server_->server_name(), "");
  }
  Connect({.host = "127.0.0.2"});
  Shake();
  ExpectClientFails(TlsFailureKind::kCertificate, "not for 127.0.0.2");
  Connect({.host = std::string(kInner) + "."});
  Shake();
  ExpectBothDone();
  EXPECT_EQ(server_->server_name(), kInner);
}

TEST_F(TlsEngineTest, PinsStandForTheCertificate) {
  UseClient({.pins = {Pin{}, server_context_->pin()}});
  Connect({.host = "any.name.test"});
  Shake();
  ExpectBothDone();
  UseClient({.pins = {Pin{}}});
  Connect({.host = kInner});
  Shake();
  ExpectClientFails(TlsFailureKind::kCertificate, FormatPin(server_context_->pin()));
  // With a CA file as well, both must hold.
  UseClient({.ca_file = ca_, .pins = {server_context_->pin()}});
  Connect({.host = "any.name.test"});
  Shake();
  ExpectClientFails(TlsFailureKind::kCertificate, "not for any.name.test");
}

TEST_F(TlsEngineTest, AlpnWithoutOverlapIsRefused) {
  Connect({.host = kInner, .alpn = {"spdy/1"}});
  Shake();
  ExpectClientFails(TlsFailureKind::kAlert, "no_application_protocol");
  EXPECT_EQ(client_->failure().alert, 120);
  Connect({.host = kInner, .alpn = {"http/1.1", "h2"}});
  Shake();
  ExpectBothDone();
  EXPECT_EQ(client_->alpn(), "h2");
}

TEST_F(TlsEngineTest, WordsForWhatIsNotTls) {
  const std::vector<std::pair<std::string, std::string>> to_server = {
      {"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "plain HTTP"},
      {"CONNECT a:443 HTTP/1.1\r\n\r\n", "plain HTTP"},
      {std::string(100, '\xaa'), "begins with aaaaaaaaaaaaaaaa"},
      {std::string("\x16\x03\x01\x00\x05\x09\x00\x00\x01\x00", 10), "TLS failed"},
  };
  for (const auto& [text, words] : to_server) {
    Connect({.host = kInner});
    server_->FeedCiphertext(AsBytes(text));
    EXPECT_EQ(server_->Handshake(), State::kFailed);
    EXPECT_EQ(server_->failure().kind, TlsFailureKind::kProtocol);
    EXPECT_THAT(std::string(MessageOf(server_->failure().status)), HasSubstr(words));
  }
  Connect({.host = kInner});
  EXPECT_EQ(client_->Handshake(), State::kWant);
  client_->FeedCiphertext(AsBytes("HTTP/1.1 400 Bad Request\r\n\r\n"));
  EXPECT_EQ(client_->Handshake(), State::kFailed);
  EXPECT_THAT(std::string(MessageOf(client_->failure().status)), HasSubstr("answered in plain HTTP"));
}

// As OpenSSL's clients do when they do not trust the certificate.
TEST_F(TlsEngineTest, AlertInTheClearIsReadAfterTheServersFlight) {
  Connect({.host = kInner});
  ASSERT_EQ(client_->Handshake(), State::kWant);
  const Bytes hello = client_->TakeOutput();
  for (const size_t piece : {SIZE_MAX, size_t{1}}) {
    Connect({.host = kInner});
    ASSERT_EQ(Deliver(*server_, hello, SIZE_MAX), State::kWant);
    EXPECT_EQ(Deliver(*server_, {21, 3, 3, 0, 2, 2, 48}, piece), State::kFailed);
    EXPECT_EQ(server_->failure().kind, TlsFailureKind::kAlert);
    EXPECT_EQ(server_->failure().alert, 48);
  }
}

TEST_F(TlsEngineTest, ContextErrorsNameTheFile) {
  const auto message = [](const absl::Status& status) { return std::string(MessageOf(status)); };
  EXPECT_THAT(message(TlsClientContext::Create({.ca_file = "/absent/ca.pem"}).status()), HasSubstr("/absent/ca.pem"));
  ASSERT_TRUE(ech::WriteStateFile(root_ / "empty", "", 0600).ok());
  EXPECT_THAT(message(TlsClientContext::Create({.ca_file = root_ / "empty"}).status()),
              HasSubstr("no PEM certificate"));
  ASSERT_TRUE(
      ech::WriteStateFile(root_ / "bad", "-----BEGIN CERTIFICATE-----\nAQID\n-----END CERTIFICATE-----\n", 0600).ok());
  EXPECT_THAT(message(TlsClientContext::Create({.ca_file = root_ / "bad"}).status()), HasSubstr("malformed"));
  ASSERT_EQ(::setenv("SSL_CERT_FILE", "/absent/store.pem", 1), 0);
  EXPECT_THAT(message(TlsClientContext::Create({}).status()), HasSubstr("/absent/store.pem"));
  ASSERT_EQ(::setenv("SSL_CERT_FILE", ca_.c_str(), 1), 0);
  EXPECT_TRUE(TlsClientContext::Create({}).ok());
  ASSERT_EQ(::unsetenv("SSL_CERT_FILE"), 0);

  const auto one = MakeSelfSigned(std::vector<std::string>{"a.test"}, {}, system_clock::now());
  const auto two = MakeSelfSigned(std::vector<std::string>{"a.test"}, {}, system_clock::now());
  ASSERT_TRUE(one.ok() && two.ok());
  EXPECT_THAT(
      message(TlsServerContext::FromPem(one->certificate_pem, "c.pem", two->key_pem.Reveal(), "k.pem", {}).status()),
      HasSubstr("k.pem: not the private key of the first certificate in c.pem"));
  EXPECT_THAT(message(TlsServerContext::FromPem(one->certificate_pem, "c.pem", "", "k.pem", {}).status()),
              HasSubstr("k.pem: no PEM private key"));
  EXPECT_THAT(message(TlsServerContext::FromFiles(root_ / "none", root_ / "none", {}).status()), HasSubstr("none"));
  EXPECT_FALSE(TlsServerContext::FromPem(one->certificate_pem, "c", one->key_pem.Reveal(), "k", {""}).ok());
}

TEST(PinTest, Forms) {
  const std::string hex(64, 'a');
  const auto pin = ParsePin(hex);
  ASSERT_TRUE(pin.ok());
  EXPECT_EQ((*pin)[31], 0xaa);
  EXPECT_EQ(*ParsePin(FormatPin(*pin)), *pin);
  EXPECT_EQ(*ParsePin("sha256//" + FormatPin(*pin).substr(7)), *pin);
  // One in 64 begins with a slash.
  Pin slash{};
  slash[0] = 0xff;
  EXPECT_TRUE(FormatPin(slash).starts_with("sha256//"));
  EXPECT_EQ(*ParsePin(FormatPin(slash)), slash);
  EXPECT_EQ(*ParsePin("sha256//" + FormatPin(slash).substr(7)), slash);
  for (const std::string& bad :
       {std::string(), hex.substr(1), hex + "a", std::string("sha256/"), std::string(64, 'g')}) {
    EXPECT_FALSE(ParsePin(bad).ok()) << bad;
  }
}

}  // namespace
}  // namespace tunnel::net
