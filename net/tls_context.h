// What TLS connections of one kind share: trust, certificate, ECH keys, protocol choices. Over BoringSSL.
//
// A context is made at start by one thread and belongs to one core after that, except for SetEchKeys. It must outlive
// the engines made from it.
#pragma once

#include <openssl/ssl.h>

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/status.h"
#include "ech/key_store.h"
#include "net/peer_verifier.h"
#include "net/ticket_keys.h"
#include "net/tls_tickets.h"

namespace tunnel::net {

struct TlsClientOptions {
  std::filesystem::path ca_file;  // trust anchors; empty: the system's, unless there are pins
  std::vector<Pin> pins;          // with pins and no ca_file, the public key alone decides
  std::vector<std::string> alpn;  // offered, most wanted first; empty: none
  bool allow_tls12 = false;       // for DoH servers of others; the tunnel is TLS 1.3 only
  bool resume = false;            // keep tickets and come back with them, with early data where there is a first flight
};

class TlsClientContext {
 public:
  // Loads what the options name. Fails with one line that names the file at fault.
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<TlsClientContext>> Create(const TlsClientOptions& options);

  [[nodiscard]] SSL_CTX* ssl_ctx() const { return ctx_.get(); }
  [[nodiscard]] const PeerVerifier& verifier() const { return verifier_; }
  // Null unless it resumes. Owner core only; a view of what engines change, so const here says nothing of it.
  [[nodiscard]] TlsTickets* tickets() const { return tickets_.get(); }
  // Whether a peer that chooses TLS 1.2 is accepted.
  [[nodiscard]] bool allow_tls12() const { return allow_tls12_; }

 private:
  TlsClientContext(bssl::UniquePtr<SSL_CTX> ctx, PeerVerifier verifier, const TlsClientOptions& options)
      : ctx_(std::move(ctx)),
        verifier_(std::move(verifier)),
        tickets_(options.resume ? std::make_unique<TlsTickets>() : nullptr),
        allow_tls12_(options.allow_tls12) {}

  bssl::UniquePtr<SSL_CTX> ctx_;
  PeerVerifier verifier_;
  std::unique_ptr<TlsTickets> tickets_;
  bool allow_tls12_ = false;
};

class TlsServerContext {
 public:
  // `chain_pem` is leaf first, `key_pem` its private key, not encrypted; the sources name them in errors. `alpn` is
  // what the server speaks, most wanted first: a client that offers only others is refused (RFC 7301), one that offers
  // none is not. TLS 1.3 only; no tickets before ResumeWith().
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<TlsServerContext>> FromPem(std::string_view chain_pem,
                                                                                 std::string_view chain_source,
                                                                                 std::string_view key_pem,
                                                                                 std::string_view key_source,
                                                                                 std::vector<std::string> alpn);

  [[nodiscard]] static absl::StatusOr<std::unique_ptr<TlsServerContext>> FromFiles(
      const std::filesystem::path& chain_file, const std::filesystem::path& key_file, std::vector<std::string> alpn);

  TlsServerContext(const TlsServerContext&) = delete;
  TlsServerContext& operator=(const TlsServerContext&) = delete;

  // Accepts ECH with these keys from the next handshake on. Any thread, at any time.
  [[nodiscard]] absl::Status SetEchKeys(const ech::KeyStore& keys) const { return keys.ApplyTo(ctx_.get()); }

  // Gives tickets out and takes them back, with early data: before the first handshake. An engine may then be done with
  // its handshake before it is confirmed (TlsEngine::confirmed).
  void ResumeWith(std::shared_ptr<TicketKeys> keys);

  [[nodiscard]] SSL_CTX* ssl_ctx() const { return ctx_.get(); }
  // The names in the leaf certificate.
  [[nodiscard]] const std::vector<std::string>& names() const { return names_; }
  // The pin by which clients may recognise this server.
  [[nodiscard]] const Pin& pin() const { return pin_; }

 private:
  TlsServerContext() = default;

  static int SelectAlpn(SSL* ssl, const uint8_t** out, uint8_t* out_length, const uint8_t* offered,
                        unsigned offered_length, void* context);

  std::shared_ptr<TicketKeys> ticket_keys_;  // null: no tickets
  bssl::UniquePtr<SSL_CTX> ctx_;
  std::vector<std::string> names_;
  Pin pin_{};
  std::vector<std::string> alpn_;
};

// ALPN names in wire form (RFC 7301 section 3.1). Fails when one is empty or over 255 bytes.
[[nodiscard]] absl::StatusOr<std::string> EncodeAlpn(const std::vector<std::string>& protocols);

}  // namespace tunnel::net
