// One TLS connection without its socket: ciphertext in, ciphertext out, plaintext between. Over BoringSSL.
//
// The caller moves bytes: it feeds what it received, calls Handshake or ReadPlaintext until that wants more, and sends
// what PendingOutput holds after every call (a read can produce output too: the answer to a KeyUpdate, an alert).
// One core owns an engine; nothing blocks and nothing is called back.
#pragma once

#include <openssl/ssl.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/status.h"
#include "net/tls_context.h"

namespace tunnel::net {

struct TlsClientHandshake {
  std::string host;                      // the inner name: DNS name or IP address in text; a final dot is dropped
  std::vector<uint8_t> ech_config_list;  // empty: without ECH (a GREASE extension is sent in its place)
  std::vector<std::string> alpn;         // instead of the context's when not empty
  // What is sent as soon as the peer may have it: as early data where a ticket allows it (RFC 8446 section 2.3), else
  // behind the handshake. Whoever records early data can play it again: it must do no harm when it arrives twice.
  std::string first_flight;
};

// Why a handshake or a connection ended, for decisions; the words are in the status.
enum class TlsFailureKind : uint8_t {
  kNone,
  kEchRejected,  // the server, verified by its outer name, does not have our ECH key: see TlsFailure::retry_configs
  kCertificate,  // the peer's certificate was not accepted
  kAlert,        // the peer refused by an alert
  kProtocol,     // what came is not TLS, not our version of it, or broken
  kClosed,       // the transport ended where TLS had not
  kInternal,     // ours
};

struct TlsFailure {
  TlsFailureKind kind = TlsFailureKind::kNone;
  absl::Status status;
  int alert = -1;  // kAlert: the peer's alert (RFC 8446 section 6)
  // Client with ECH, when the server had rejected it: the name that was shown and verified instead of the host.
  std::string outer_name;
  // kEchRejected: the ECHConfigList the server sent, authenticated; empty when it sent none (ECH was withdrawn).
  std::vector<uint8_t> retry_configs;
};

class TlsEngine {
 public:
  enum class HandshakeState : uint8_t { kWant, kDone, kFailed };
  enum class ReadState : uint8_t {
    kData,      // bytes > 0 were written to `out`
    kNeedMore,  // all input is consumed; feed more
    kClosed,    // the peer sent close_notify: no more plaintext will come
    kError,     // see failure()
  };
  struct ReadResult {
    ReadState state = ReadState::kNeedMore;
    size_t bytes = 0;
  };

  // The context must outlive the engine. Fails when the host is empty, an ALPN name is bad or the ECHConfigList is
  // malformed or holds nothing usable: there is no silent way back to a handshake without ECH.
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<TlsEngine>> Client(const TlsClientContext& context,
                                                                         const TlsClientHandshake& handshake);
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<TlsEngine>> Server(const TlsServerContext& context);

  TlsEngine(const TlsEngine&) = delete;
  TlsEngine& operator=(const TlsEngine&) = delete;

  // Borrows bytes that came from the peer: they must stay in place until Handshake said kWant or ReadPlaintext said
  // kNeedMore (all is consumed then), or KeepInput was called. What is fed while older input is left is put after it,
  // by copying both.
  void FeedCiphertext(std::span<const uint8_t> bytes);
  // Copies what is unread of the borrowed bytes, so that their buffer is free. For a caller that stops reading.
  void KeepInput();
  // ReadPlaintext has more to say without being fed: what is left of the input, or an end or error behind the last
  // data.
  [[nodiscard]] bool HasMore() const { return !input_.empty() || unsaid_; }
  // What was fed and not consumed yet.
  [[nodiscard]] std::span<const uint8_t> UnreadInput() const { return input_; }
  // The transport has ended. Without a close_notify before, the next call that wants input fails with kClosed.
  void FeedEnd() { input_ended_ = true; }

  // Goes on with the handshake as far as the input allows. A client's first call puts its ClientHello out. On kFailed
  // the output may hold an alert, worth sending before closing.
  // A client is done when the server has proved itself, whether or not its first flight went out before. A server is
  // done as soon as it may read early data: see confirmed().
  [[nodiscard]] HandshakeState Handshake();

  // Whether the peer is known to be there now: what was read before may be the recording of another connection's early
  // data. ReadPlaintext gets a server there. Always true of a client that is done.
  [[nodiscard]] bool confirmed() const { return done_ && SSL_in_init(ssl_.get()) == 0; }

  // Decrypts into `out`, which must not be empty, as many records as fit. Only after kDone. An error that comes after
  // data is reported by the next call.
  [[nodiscard]] ReadResult ReadPlaintext(std::span<uint8_t> out);

  // Appends records with all of `plaintext` to the output. Only after kDone. Fails after Shutdown or a failure.
  [[nodiscard]] absl::Status WritePlaintext(std::span<const uint8_t> plaintext);

  // Appends close_notify to the output, once; reading goes on. Does nothing before kDone and after a failure.
  void Shutdown();

  // Ciphertext for the peer; the view is good until the next call that is not const.
  [[nodiscard]] std::span<const uint8_t> PendingOutput() const { return std::span(output_).subspan(output_begin_); }
  // Drops the first `count` bytes of it: they were sent.
  void ConsumeOutput(size_t count);
  // All of it at once, owned by the caller.
  [[nodiscard]] std::vector<uint8_t> TakeOutput();

  // kNone until something failed; then it stays.
  [[nodiscard]] const TlsFailure& failure() const { return failure_; }

  // Client: whether it asks for ECH. Server: whether the ClientHello had the extension, of whatever key: of a stale
  // config and of GREASE it looks the same. Before the ClientHello came: false.
  [[nodiscard]] bool ech_offered() const { return ech_offered_; }
  // Server, for TlsServerContext: the callback that sees each ClientHello.
  [[nodiscard]] static ssl_select_cert_result_t SeeClientHello(const SSL_CLIENT_HELLO* hello);

  // After kDone.
  [[nodiscard]] bool resumed() const { return SSL_session_reused(ssl_.get()) == 1; }
  // The first flight arrived as early data.
  [[nodiscard]] bool early_data_accepted() const { return SSL_early_data_accepted(ssl_.get()) == 1; }
  [[nodiscard]] bool ech_accepted() const { return SSL_ech_accepted(ssl_.get()) == 1; }
  [[nodiscard]] std::string_view alpn() const;         // empty when none was agreed
  [[nodiscard]] std::string_view server_name() const;  // server: the (inner) SNI, empty when there was none
  [[nodiscard]] std::string Describe() const;  // "TLSv1.3 TLS_AES_128_GCM_SHA256 X25519", ", resumed" or ", 0-RTT"

  // Client: the certificate that the server showed, accepted or not; null before it came.
  [[nodiscard]] bssl::UniquePtr<X509> peer_leaf() const;

  // For SSL_CTX_sess_set_new_cb of a client's context: keeps what the server gave this engine.
  static int KeepTicket(SSL* ssl, SSL_SESSION* session);

 private:
  explicit TlsEngine(bssl::UniquePtr<SSL> ssl) : ssl_(std::move(ssl)) {}

  [[nodiscard]] static absl::StatusOr<std::unique_ptr<TlsEngine>> New(SSL_CTX* ctx);
  static const BIO_METHOD* BioMethod();
  static int BioRead(BIO* bio, char* out, int length);
  static int BioWrite(BIO* bio, const char* in, int length);
  static long BioControl(BIO* bio, int command, long number, void* pointer);
  static ssl_verify_result_t VerifyPeer(SSL* ssl, uint8_t* out_alert);

  // Handshake() where BoringSSL is done.
  [[nodiscard]] HandshakeState Finish();
  [[nodiscard]] absl::Status Write(std::span<const uint8_t> plaintext);

  // Turns BoringSSL's error into failure_, once.
  void Fail(int ssl_error);
  void FailWith(TlsFailureKind kind, absl::Status status);
  void FailByQueue();
  [[nodiscard]] std::string WordsForForeignBytes() const;
  void RememberRead(std::span<const uint8_t> bytes);

  bssl::UniquePtr<SSL> ssl_;
  const TlsClientContext* client_ = nullptr;  // null: a server
  bssl::UniquePtr<CRYPTO_BUFFER> peer_leaf_;  // client: as it was shown
  std::string host_;                          // client
  std::string first_flight_;                  // client: until it was sent for good
  bool sent_early_ = false;                   // client: it went out as early data
  bool ech_offered_ = false;
  bool done_ = false;
  bool shut_ = false;
  bool input_ended_ = false;
  bool unsaid_ = false;             // an end or an error was met behind data
  std::span<const uint8_t> input_;  // unread: borrowed, or the tail of kept_
  std::vector<uint8_t> kept_;
  std::vector<uint8_t> output_;
  size_t output_begin_ = 0;
  // Of the peer, while shaking hands, for words about what went wrong: the first bytes, and the last that were read.
  std::string first_bytes_;
  std::array<uint8_t, 7> last_read_{};
  absl::Status verify_status_;
  TlsFailure failure_;
};

}  // namespace tunnel::net
