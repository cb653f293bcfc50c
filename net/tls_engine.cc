#include "net/tls_engine.h"

#include <arpa/inet.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pool.h>
#include <openssl/x509.h>

#include <algorithm>
#include <array>
#include <climits>
#include <cstring>
#include <utility>

#include "core/check.h"
#include "ech/boringssl_error.h"
#include "ech/config_list.h"

namespace tunnel::net {
namespace {

constexpr size_t kFirstBytes = 16;
// An idle connection does not keep the buffer of its last burst.
constexpr size_t kIdleOutputBytes = 4096;
constexpr size_t kRecordPlaintextLimit = 16384;  // RFC 8446 section 5.1
// 5 of header, 1 of content type, 16 of tag; BoringSSL adds no padding.
constexpr size_t kRecordOverhead = 22;
// BoringSSL's servers take 14,336 bytes of early data; other servers say what they take, and what is over it waits.
constexpr size_t kEarlyDataLimit = 8192;

std::span<const uint8_t> AsBytes(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

int EngineIndex() {
  static const int index = SSL_get_ex_new_index(0, nullptr, nullptr, nullptr, nullptr);
  return index;
}

bool IsIpAddress(const std::string& host) {
  std::array<uint8_t, 16> unused{};
  return inet_pton(AF_INET, host.c_str(), unused.data()) == 1 || inet_pton(AF_INET6, host.c_str(), unused.data()) == 1;
}

// Whether these bytes are a whole unencrypted record with a fatal alert (RFC 8446 sections 5.1 and 6).
bool IsAlertRecord(const std::array<uint8_t, 7>& bytes) {
  return bytes[0] == SSL3_RT_ALERT && bytes[1] == 3 && bytes[3] == 0 && bytes[4] == 2 && bytes[5] == SSL3_AL_FATAL;
}

std::string AlertName(int alert) {
  if (alert == SSL_AD_ECH_REQUIRED) return "ech_required";
  std::string name = SSL_alert_desc_string_long(alert);
  std::ranges::replace(name, ' ', '_');
  return name;
}

}  // namespace

const BIO_METHOD* TlsEngine::BioMethod() {
  // One for the process, never freed: engines of static lifetime may outlive any point where it could be.
  static const BIO_METHOD* const method = [] {
    BIO_METHOD* made = BIO_meth_new(0, "tls engine");
    TUNNEL_CHECK(made != nullptr && BIO_meth_set_read(made, BioRead) == 1 && BIO_meth_set_write(made, BioWrite) == 1 &&
                 BIO_meth_set_ctrl(made, BioControl) == 1);
    return made;
  }();
  return method;
}

int TlsEngine::BioRead(BIO* bio, char* out, int length) {
  auto* self = static_cast<TlsEngine*>(BIO_get_data(bio));
  BIO_clear_retry_flags(bio);
  if (self->input_.empty()) {
    if (self->input_ended_) return 0;
    BIO_set_retry_read(bio);
    return -1;
  }
  const size_t count = std::min(self->input_.size(), static_cast<size_t>(length));
  std::memcpy(out, self->input_.data(), count);
  self->input_ = self->input_.subspan(count);
  if (!self->done_) self->RememberRead({reinterpret_cast<const uint8_t*>(out), count});
  return static_cast<int>(count);
}

void TlsEngine::RememberRead(std::span<const uint8_t> bytes) {
  bytes = bytes.last(std::min(bytes.size(), last_read_.size()));
  std::shift_left(last_read_.begin(), last_read_.end(), static_cast<std::ptrdiff_t>(bytes.size()));
  std::ranges::copy(bytes, last_read_.end() - static_cast<std::ptrdiff_t>(bytes.size()));
}

int TlsEngine::BioWrite(BIO* bio, const char* in, int length) {
  auto* self = static_cast<TlsEngine*>(BIO_get_data(bio));
  BIO_clear_retry_flags(bio);
  self->output_.insert(self->output_.end(), in, in + length);
  return length;
}

long TlsEngine::BioControl(BIO* /*bio*/, int command, long /*number*/, void* /*pointer*/) {
  return command == BIO_CTRL_FLUSH ? 1 : 0;
}

absl::StatusOr<std::unique_ptr<TlsEngine>> TlsEngine::New(SSL_CTX* ctx) {
  ERR_clear_error();
  bssl::UniquePtr<SSL> ssl(SSL_new(ctx));
  bssl::UniquePtr<BIO> bio(BIO_new(BioMethod()));
  if (ssl == nullptr || bio == nullptr)
    return Internal("a TLS connection cannot be made: {}", ech::TakeBoringSslError());
  std::unique_ptr<TlsEngine> engine(new TlsEngine(std::move(ssl)));
  BIO_set_data(bio.get(), engine.get());
  BIO_set_init(bio.get(), 1);
  // SSL_set_bio takes one reference for both directions when they are the same.
  BIO* const both = bio.release();
  SSL_set_bio(engine->ssl_.get(), both, both);
  if (SSL_set_ex_data(engine->ssl_.get(), EngineIndex(), engine.get()) != 1) {
    return Internal("a TLS connection cannot be made: {}", ech::TakeBoringSslError());
  }
  return engine;
}

absl::StatusOr<std::unique_ptr<TlsEngine>> TlsEngine::Client(const TlsClientContext& context,
                                                             const TlsClientHandshake& handshake) {
  std::string host = handshake.host;
  if (!host.empty() && host.back() == '.') host.pop_back();
  if (host.empty()) return InvalidArgument("a TLS handshake needs the server's name");
  absl::StatusOr<std::unique_ptr<TlsEngine>> engine = New(context.ssl_ctx());
  if (!engine.ok()) return engine.status();
  TlsEngine& self = **engine;
  SSL* const ssl = self.ssl_.get();
  self.client_ = &context;
  self.host_ = std::move(host);
  self.first_flight_ = handshake.first_flight;
  SSL_set_connect_state(ssl);
  SSL_set_custom_verify(ssl, SSL_VERIFY_PEER, VerifyPeer);
  // An address is not a name that SNI may carry (RFC 6066 section 3).
  if (!IsIpAddress(self.host_) && SSL_set_tlsext_host_name(ssl, self.host_.c_str()) != 1) {
    ERR_clear_error();
    return InvalidArgument("'{}' cannot be sent as a server name", self.host_);
  }
  if (!handshake.alpn.empty()) {
    const absl::StatusOr<std::string> alpn = EncodeAlpn(handshake.alpn);
    if (!alpn.ok()) return alpn.status();
    if (SSL_set_alpn_protos(ssl, reinterpret_cast<const uint8_t*>(alpn->data()), static_cast<unsigned>(alpn->size())) !=
        0) {
      return Internal("ALPN was refused: {}", ech::TakeBoringSslError());
    }
  }
  if (context.tickets() != nullptr) {
    if (const bssl::UniquePtr<SSL_SESSION> session = context.tickets()->Take(self.host_); session != nullptr) {
      SSL_set_session(ssl, session.get());
      const bool fits = !self.first_flight_.empty() && self.first_flight_.size() <= kEarlyDataLimit;
      SSL_set_early_data_enabled(ssl, fits ? 1 : 0);
    }
  }
  if (handshake.ech_config_list.empty()) {
    SSL_set_enable_ech_grease(ssl, 1);
    return engine;
  }
  // BoringSSL goes on without ECH when it finds nothing it supports, so that is ruled out before.
  const absl::StatusOr<std::vector<uint8_t>> usable = ech::FilterUsable(handshake.ech_config_list);
  if (!usable.ok()) return usable.status();
  if (SSL_set1_ech_config_list(ssl, usable->data(), usable->size()) != 1) {
    return InvalidArgument("the ECHConfigList was refused: {}", ech::TakeBoringSslError());
  }
  self.ech_offered_ = true;
  return engine;
}

absl::StatusOr<std::unique_ptr<TlsEngine>> TlsEngine::Server(const TlsServerContext& context) {
  absl::StatusOr<std::unique_ptr<TlsEngine>> engine = New(context.ssl_ctx());
  if (engine.ok()) SSL_set_accept_state((*engine)->ssl_.get());
  return engine;
}

ssl_select_cert_result_t TlsEngine::SeeClientHello(const SSL_CLIENT_HELLO* hello) {
  auto* self = static_cast<TlsEngine*>(SSL_get_ex_data(hello->ssl, EngineIndex()));
  const uint8_t* unused = nullptr;
  size_t unused_length = 0;
  if (self != nullptr) {
    self->ech_offered_ |=
        SSL_early_callback_ctx_extension_get(hello, TLSEXT_TYPE_encrypted_client_hello, &unused, &unused_length) == 1;
  }
  return ssl_select_cert_success;
}

ssl_verify_result_t TlsEngine::VerifyPeer(SSL* ssl, uint8_t* out_alert) {
  auto* self = static_cast<TlsEngine*>(SSL_get_ex_data(ssl, EngineIndex()));
  const char* override_name = nullptr;
  size_t override_length = 0;
  SSL_get0_ech_name_override(ssl, &override_name, &override_length);
  // Rejected: the server must prove the outer name, or its retry configs are anyone's (RFC 9849 section 6.1.7).
  if (override_length > 0) self->failure_.outer_name.assign(override_name, override_length);
  const std::string& name = override_length > 0 ? self->failure_.outer_name : self->host_;
  const STACK_OF(CRYPTO_BUFFER)* const chain = SSL_get0_peer_certificates(ssl);
  if (chain != nullptr && sk_CRYPTO_BUFFER_num(chain) > 0) {
    self->peer_leaf_ = bssl::UpRef(sk_CRYPTO_BUFFER_value(chain, 0));
  }
  VerifyFailure failure = self->client_->verifier().Verify(chain, name);
  if (failure.status.ok()) return ssl_verify_ok;
  *out_alert = failure.alert;
  self->verify_status_ =
      override_length > 0 ? Annotate(failure.status, "ECH was rejected by a server that does not prove to be {}", name)
                          : std::move(failure.status);
  return ssl_verify_invalid;
}

void TlsEngine::FeedCiphertext(std::span<const uint8_t> bytes) {
  if (first_bytes_.size() < kFirstBytes && !done_) {
    const auto part = bytes.first(std::min(bytes.size(), kFirstBytes - first_bytes_.size()));
    first_bytes_.append(part.begin(), part.end());
  }
  if (input_.empty()) {
    kept_ = {};
    input_ = bytes;
    return;
  }
  KeepInput();
  kept_.insert(kept_.end(), bytes.begin(), bytes.end());
  input_ = kept_;
}

void TlsEngine::KeepInput() {
  const bool in_kept =
      !input_.empty() && !kept_.empty() && input_.data() >= kept_.data() && input_.data() < kept_.data() + kept_.size();
  if (in_kept) {
    kept_.erase(kept_.begin(), kept_.begin() + (input_.data() - kept_.data()));
  } else {
    kept_.assign(input_.begin(), input_.end());
  }
  input_ = kept_;
}

int TlsEngine::KeepTicket(SSL* ssl, SSL_SESSION* session) {
  const auto* self = static_cast<const TlsEngine*>(SSL_get_ex_data(ssl, EngineIndex()));
  self->client_->tickets()->Add(self->host_, bssl::UniquePtr<SSL_SESSION>(session));
  return 1;  // it is ours now
}

TlsEngine::HandshakeState TlsEngine::Handshake() {
  if (failure_.kind != TlsFailureKind::kNone) return HandshakeState::kFailed;
  if (done_) return HandshakeState::kDone;
  for (;;) {
    ERR_clear_error();
    const int result = SSL_do_handshake(ssl_.get());
    if (result == 1) {
      const bool early = SSL_in_early_data(ssl_.get()) == 1;
      if (early && client_ != nullptr) {
        if (sent_early_) return HandshakeState::kWant;
        sent_early_ = true;
        if (!Write(AsBytes(first_flight_)).ok()) return HandshakeState::kFailed;
        continue;
      }
      return Finish();
    }
    const int error = SSL_get_error(ssl_.get(), result);
    if (error == SSL_ERROR_WANT_READ) return HandshakeState::kWant;
    if (error == SSL_ERROR_EARLY_DATA_REJECTED) {
      // It is sent again behind the handshake.
      sent_early_ = false;
      SSL_reset_early_data_reject(ssl_.get());
      continue;
    }
    Fail(error);
    return HandshakeState::kFailed;
  }
}

TlsEngine::HandshakeState TlsEngine::Finish() {
  if (client_ != nullptr && ech_offered_ && !ech_accepted()) {
    FailWith(TlsFailureKind::kProtocol, ProtocolError("the handshake ended without ECH although ECH was offered"));
    return HandshakeState::kFailed;
  }
  if (client_ != nullptr && !client_->allow_tls12() && SSL_version(ssl_.get()) != TLS1_3_VERSION) {
    FailWith(TlsFailureKind::kProtocol, ProtocolError("the peer does not speak TLS 1.3"));
    return HandshakeState::kFailed;
  }
  done_ = true;
  first_bytes_ = {};
  if (!first_flight_.empty() && !sent_early_ && !Write(AsBytes(first_flight_)).ok()) return HandshakeState::kFailed;
  first_flight_ = {};
  return HandshakeState::kDone;
}

TlsEngine::ReadResult TlsEngine::ReadPlaintext(std::span<uint8_t> out) {
  TUNNEL_CHECK(done_ && !out.empty());
  if (failure_.kind != TlsFailureKind::kNone) return {ReadState::kError, 0};
  size_t filled = 0;
  while (filled < out.size()) {
    ERR_clear_error();
    const int limit = static_cast<int>(std::min<size_t>(out.size() - filled, INT_MAX));
    const int got = SSL_read(ssl_.get(), out.data() + filled, limit);
    if (got > 0) {
      filled += static_cast<size_t>(got);
      continue;
    }
    const int error = SSL_get_error(ssl_.get(), got);
    unsaid_ = filled > 0 && error != SSL_ERROR_WANT_READ;
    // BoringSSL keeps the end and every error, and says it again when asked again.
    if (filled > 0) break;
    if (error == SSL_ERROR_WANT_READ) return {ReadState::kNeedMore, 0};
    if (error == SSL_ERROR_ZERO_RETURN) return {ReadState::kClosed, 0};
    Fail(error);
    return {ReadState::kError, 0};
  }
  ERR_clear_error();
  return {ReadState::kData, filled};
}

absl::Status TlsEngine::WritePlaintext(std::span<const uint8_t> plaintext) {
  TUNNEL_CHECK(done_);
  if (failure_.kind != TlsFailureKind::kNone) return failure_.status;
  if (shut_) return absl::FailedPreconditionError("write after close_notify");
  return Write(plaintext);
}

absl::Status TlsEngine::Write(std::span<const uint8_t> plaintext) {
  const size_t needed =
      output_.size() + plaintext.size() + (plaintext.size() / kRecordPlaintextLimit + 1) * kRecordOverhead;
  if (needed > output_.capacity()) output_.reserve(std::max(needed, 2 * output_.capacity()));
  while (!plaintext.empty()) {
    ERR_clear_error();
    const int length = static_cast<int>(std::min<size_t>(plaintext.size(), size_t{1} << 30));
    const int written = SSL_write(ssl_.get(), plaintext.data(), length);
    if (written <= 0) {
      Fail(SSL_get_error(ssl_.get(), written));
      return failure_.status;
    }
    plaintext = plaintext.subspan(static_cast<size_t>(written));
  }
  return absl::OkStatus();
}

void TlsEngine::Shutdown() {
  if (!done_ || shut_ || failure_.kind != TlsFailureKind::kNone) return;
  shut_ = true;
  // 0: ours is out, the peer's has not come; that is for ReadPlaintext to see.
  (void)SSL_shutdown(ssl_.get());
  ERR_clear_error();
}

void TlsEngine::ConsumeOutput(size_t count) {
  TUNNEL_CHECK(count <= output_.size() - output_begin_);
  output_begin_ += count;
  if (output_begin_ < output_.size()) return;
  output_begin_ = 0;
  output_.clear();
  if (output_.capacity() > kIdleOutputBytes) output_ = {};
}

std::vector<uint8_t> TlsEngine::TakeOutput() {
  std::vector<uint8_t> out = std::exchange(output_, {});
  out.erase(out.begin(), out.begin() + static_cast<std::ptrdiff_t>(std::exchange(output_begin_, 0)));
  return out;
}

std::string_view TlsEngine::alpn() const {
  const uint8_t* name = nullptr;
  unsigned length = 0;
  SSL_get0_alpn_selected(ssl_.get(), &name, &length);
  return {reinterpret_cast<const char*>(name), length};
}

std::string_view TlsEngine::server_name() const {
  const char* name = SSL_get_servername(ssl_.get(), TLSEXT_NAMETYPE_host_name);
  return name == nullptr ? std::string_view() : name;
}

bssl::UniquePtr<X509> TlsEngine::peer_leaf() const {
  return peer_leaf_ == nullptr ? nullptr : bssl::UniquePtr<X509>(X509_parse_from_buffer(peer_leaf_.get()));
}

std::string TlsEngine::Describe() const {
  const SSL_CIPHER* cipher = SSL_get_current_cipher(ssl_.get());
  const char* group = SSL_get_curve_name(SSL_get_curve_id(ssl_.get()));
  return fmt::format("{} {} {}{}", SSL_get_version(ssl_.get()),
                     cipher == nullptr ? "no cipher" : SSL_CIPHER_standard_name(cipher),
                     group == nullptr ? "no group" : group,
                     early_data_accepted() ? ", 0-RTT"
                     : resumed()           ? ", resumed"
                                           : "");
}

void TlsEngine::FailWith(TlsFailureKind kind, absl::Status status) {
  if (failure_.kind != TlsFailureKind::kNone) return;
  failure_.kind = kind;
  failure_.status = std::move(status);
}

void TlsEngine::Fail(int ssl_error) {
  if (ssl_error == SSL_ERROR_SSL) {
    FailByQueue();
  } else if (input_ended_) {
    FailWith(TlsFailureKind::kClosed,
             Unavailable("{}", done_ ? "the connection ended without a TLS close_notify"
                                     : "the peer closed the connection during the TLS handshake"));
  } else if (ssl_error == SSL_ERROR_ZERO_RETURN) {
    FailWith(TlsFailureKind::kClosed, Unavailable("the peer ended TLS during the handshake"));
  } else {
    FailWith(TlsFailureKind::kInternal, Internal("TLS stopped with code {}", ssl_error));
  }
  ERR_clear_error();
}

std::string TlsEngine::WordsForForeignBytes() const {
  if (first_bytes_.starts_with("HTTP/")) return "the peer answered in plain HTTP, not TLS: is the port right?";
  if (first_bytes_.starts_with("SSH-")) return "the peer speaks SSH, not TLS";
  std::string hex;
  for (const char c : first_bytes_.substr(0, 8)) hex += fmt::format("{:02x}", static_cast<uint8_t>(c));
  return fmt::format("what came is not TLS: it begins with {}", hex);
}

void TlsEngine::FailByQueue() {
  const uint32_t error = ERR_peek_error();
  const int reason = ERR_GET_LIB(error) == ERR_LIB_SSL ? ERR_GET_REASON(error) : 0;
  if (reason == SSL_R_ECH_REJECTED) {
    const uint8_t* retry = nullptr;
    size_t length = 0;
    SSL_get0_ech_retry_configs(ssl_.get(), &retry, &length);
    failure_.retry_configs.assign(retry, retry + length);
    FailWith(TlsFailureKind::kEchRejected,
             PermissionDenied("ECH was rejected by {}, which {}", failure_.outer_name,
                              length > 0 ? "sent other configs to retry with" : "sent no configs to retry with"));
  } else if (reason == SSL_R_CERTIFICATE_VERIFY_FAILED && !verify_status_.ok()) {
    FailWith(TlsFailureKind::kCertificate, std::move(verify_status_));
  } else if (reason > SSL_AD_REASON_OFFSET || (!done_ && IsAlertRecord(last_read_))) {
    // OpenSSL refuses a server's certificate by an alert in the clear, where encrypted records are expected already.
    failure_.alert = reason > SSL_AD_REASON_OFFSET ? reason - SSL_AD_REASON_OFFSET : last_read_.back();
    FailWith(TlsFailureKind::kAlert, PermissionDenied("the peer sent the TLS alert {}", AlertName(failure_.alert)));
  } else if (reason == SSL_R_HTTP_REQUEST || reason == SSL_R_HTTPS_PROXY_REQUEST) {
    FailWith(TlsFailureKind::kProtocol, ProtocolError("plain HTTP came where TLS was expected"));
  } else if (reason == SSL_R_UNSUPPORTED_PROTOCOL) {
    FailWith(TlsFailureKind::kProtocol, ProtocolError("the peer does not speak TLS 1.3"));
  } else if (reason == SSL_R_WRONG_VERSION_NUMBER && !done_) {
    FailWith(TlsFailureKind::kProtocol, ProtocolError("{}", WordsForForeignBytes()));
  } else {
    FailWith(TlsFailureKind::kProtocol, ProtocolError("TLS failed: {}", ech::TakeBoringSslError()));
  }
}

}  // namespace tunnel::net
