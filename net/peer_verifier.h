// Whether a server's certificate is acceptable: by trust anchors and name, by pinned public key, or by both.
//
// Immutable after construction. X.509 validity is judged by the system's wall clock (time()), which no simulation
// replaces: certificates are dated in it.
#pragma once

#include <openssl/base.h>
#include <openssl/pool.h>
#include <openssl/x509.h>

#include <array>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/status.h"

namespace tunnel::net {

// SHA-256 of a certificate's SubjectPublicKeyInfo, as in RFC 7469.
using Pin = std::array<uint8_t, 32>;

// Reads a pin: 64 hex digits (colons allowed) or base64, with or without "sha256/" or "sha256//" before it.
[[nodiscard]] absl::StatusOr<Pin> ParsePin(std::string_view text);
[[nodiscard]] std::string FormatPin(const Pin& pin);  // "sha256/BASE64"

// The certificates of a PEM text, in order. Fails, naming `source`, when there is none or one is malformed.
[[nodiscard]] absl::StatusOr<std::vector<bssl::UniquePtr<X509>>> ParseCertificates(std::string_view pem,
                                                                                   std::string_view source);

[[nodiscard]] absl::StatusOr<Pin> PinOf(const X509& certificate);

// The DNS names and IP addresses a certificate is for (its subjectAltName); the common name where it has none.
[[nodiscard]] std::vector<std::string> NamesOf(const X509& certificate);

// What a certificate says, for people to read.
struct CertificateSummary {
  std::vector<std::string> names;
  std::string issuer;
  std::string not_before;
  std::string not_after;
  std::string pin;  // FormatPin
};
[[nodiscard]] CertificateSummary Summarize(const X509& certificate);

// A failed judgement: why in words, and the TLS alert that tells the peer.
struct VerifyFailure {
  absl::Status status;
  uint8_t alert = 0;
};

class PeerVerifier {
 public:
  // Trust anchors of the system: $SSL_CERT_FILE, else /etc/ssl/certs/ca-certificates.crt. Fails naming the file.
  [[nodiscard]] static absl::StatusOr<PeerVerifier> System();

  // Trust anchors of a PEM file; any certificate in it is one, self-signed or not.
  [[nodiscard]] static absl::StatusOr<PeerVerifier> FromFile(const std::filesystem::path& path);

  // No anchors: the leaf's public key must be one of `pins`, and neither names, dates nor issuers are looked at.
  [[nodiscard]] static absl::StatusOr<PeerVerifier> FromPins(std::vector<Pin> pins);

  // Requires a pinned key besides what is required already.
  void AddPins(std::vector<Pin> pins);

  // Judges a chain as received, leaf first, for `name`: a DNS name or an IP address in text, without a final dot.
  [[nodiscard]] VerifyFailure Verify(const STACK_OF(CRYPTO_BUFFER) * chain, const std::string& name) const;

 private:
  PeerVerifier() = default;

  [[nodiscard]] VerifyFailure CheckPins(const X509& leaf) const;
  [[nodiscard]] VerifyFailure CheckChain(X509* leaf, STACK_OF(X509) * rest, const std::string& name) const;

  bssl::UniquePtr<X509_STORE> anchors_;  // null: by pins alone
  std::string anchors_source_;           // for messages
  std::vector<Pin> pins_;
};

}  // namespace tunnel::net
