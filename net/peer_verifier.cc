#include "net/peer_verifier.h"

#include <arpa/inet.h>
#include <openssl/bio.h>
#include <openssl/digest.h>
#include <openssl/err.h>
#include <openssl/mem.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <utility>

#include "core/check.h"
#include "ech/boringssl_error.h"
#include "ech/pem.h"
#include "ech/state_file.h"
#include "proto/base64.h"

namespace tunnel::net {
namespace {

constexpr const char* kSystemTrustFile = "/etc/ssl/certs/ca-certificates.crt";

bool IsIpAddress(const std::string& name) {
  std::array<uint8_t, 16> unused{};
  return inet_pton(AF_INET, name.c_str(), unused.data()) == 1 || inet_pton(AF_INET6, name.c_str(), unused.data()) == 1;
}

std::string TimeText(const ASN1_TIME* time) {
  const bssl::UniquePtr<BIO> bio(BIO_new(BIO_s_mem()));
  const uint8_t* text = nullptr;
  size_t length = 0;
  if (bio == nullptr || ASN1_TIME_print(bio.get(), time) != 1 || BIO_mem_contents(bio.get(), &text, &length) != 1) {
    return "an unreadable date";
  }
  return {reinterpret_cast<const char*>(text), length};
}

// A name that came from a certificate, fit for a log line.
std::string Printable(std::string text) {
  std::ranges::replace_if(text, [](char c) { return c < 0x20 || c > 0x7e; }, '.');
  return text;
}

std::string NameText(const X509_NAME* name) {
  const bssl::UniquePtr<BIO> bio(BIO_new(BIO_s_mem()));
  const uint8_t* text = nullptr;
  size_t length = 0;
  if (bio == nullptr || X509_NAME_print_ex(bio.get(), const_cast<X509_NAME*>(name), 0, XN_FLAG_ONELINE) < 0 ||
      BIO_mem_contents(bio.get(), &text, &length) != 1) {
    return "unreadable";
  }
  return Printable({reinterpret_cast<const char*>(text), length});
}

std::string Joined(const std::vector<std::string>& names) {
  constexpr size_t kShown = 8;
  std::string text;
  for (size_t i = 0; i < std::min(names.size(), kShown); ++i) {
    if (i > 0) text += ", ";
    text += names[i];
  }
  if (names.size() > kShown) text += fmt::format(" and {} more", names.size() - kShown);
  return text.empty() ? "no name at all" : text;
}

VerifyFailure Failure(uint8_t alert, std::string message) {
  return {PermissionDenied("{}", std::move(message)), alert};
}

int HexValue(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

absl::StatusOr<Pin> ParsePin(std::string_view text) {
  const std::string_view given = text;
  if (text.starts_with("sha256/")) {
    text.remove_prefix(7);
    // curl writes two slashes; but a slash may also be the first of the 44 characters.
    if (text.starts_with('/') && text.size() != 44) text.remove_prefix(1);
  }
  Pin pin{};
  std::string hex(text);
  std::erase(hex, ':');
  if (hex.size() == 2 * pin.size() && std::ranges::all_of(hex, [](char c) { return HexValue(c) >= 0; })) {
    for (size_t i = 0; i < pin.size(); ++i) {
      pin[i] = static_cast<uint8_t>(HexValue(hex[2 * i]) * 16 + HexValue(hex[2 * i + 1]));
    }
    return pin;
  }
  const absl::StatusOr<std::vector<uint8_t>> bytes = ech::DecodeBase64(text);
  if (!bytes.ok() || bytes->size() != pin.size()) {
    return InvalidArgument("'{}' is not a pin: 64 hex digits or 44 characters of base64 are needed", given);
  }
  std::ranges::copy(*bytes, pin.begin());
  return pin;
}

std::string FormatPin(const Pin& pin) { return "sha256/" + proto::Base64Encode(pin); }

absl::StatusOr<std::vector<bssl::UniquePtr<X509>>> ParseCertificates(std::string_view pem, std::string_view source) {
  ERR_clear_error();
  const bssl::UniquePtr<BIO> bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
  if (bio == nullptr) return Internal("no memory for certificates");
  std::vector<bssl::UniquePtr<X509>> certificates;
  for (;;) {
    bssl::UniquePtr<X509> certificate(PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr));
    if (certificate == nullptr) break;
    certificates.push_back(std::move(certificate));
  }
  const uint32_t error = ERR_peek_last_error();
  const bool at_end = ERR_GET_LIB(error) == ERR_LIB_PEM && ERR_GET_REASON(error) == PEM_R_NO_START_LINE;
  const std::string reason = ech::TakeBoringSslError();
  if (!at_end) {
    return InvalidArgument("{}: certificate {} is malformed: {}", source, certificates.size() + 1, reason);
  }
  if (certificates.empty()) return InvalidArgument("{}: no PEM certificate in it", source);
  return certificates;
}

absl::StatusOr<Pin> PinOf(const X509& certificate) {
  Pin pin{};
  unsigned length = 0;
  uint8_t* der = nullptr;
  const int der_length = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(&certificate), &der);
  if (der_length <= 0)
    return InvalidArgument("the certificate's public key is unreadable: {}", ech::TakeBoringSslError());
  const bssl::UniquePtr<uint8_t> owner(der);
  if (EVP_Digest(der, static_cast<size_t>(der_length), pin.data(), &length, EVP_sha256(), nullptr) != 1) {
    return Internal("SHA-256 failed");
  }
  return pin;
}

CertificateSummary Summarize(const X509& certificate) {
  const absl::StatusOr<Pin> pin = PinOf(certificate);
  CertificateSummary summary{.names = NamesOf(certificate),
                             .issuer = NameText(X509_get_issuer_name(&certificate)),
                             .not_before = TimeText(X509_get0_notBefore(&certificate)),
                             .not_after = TimeText(X509_get0_notAfter(&certificate)),
                             .pin = pin.ok() ? FormatPin(*pin) : std::string("unreadable")};
  for (std::string& name : summary.names) name = Printable(std::move(name));
  return summary;
}

std::vector<std::string> NamesOf(const X509& certificate) {
  std::vector<std::string> names;
  const bssl::UniquePtr<GENERAL_NAMES> alternatives(
      static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(&certificate, NID_subject_alt_name, nullptr, nullptr)));
  for (size_t i = 0; alternatives != nullptr && i < sk_GENERAL_NAME_num(alternatives.get()); ++i) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(alternatives.get(), i);
    if (name->type == GEN_DNS) {
      names.push_back(Printable({reinterpret_cast<const char*>(ASN1_STRING_get0_data(name->d.dNSName)),
                                 static_cast<size_t>(ASN1_STRING_length(name->d.dNSName))}));
    } else if (name->type == GEN_IPADD) {
      const int length = ASN1_STRING_length(name->d.iPAddress);
      std::array<char, INET6_ADDRSTRLEN> text{};
      if ((length == 4 || length == 16) &&
          inet_ntop(length == 4 ? AF_INET : AF_INET6, ASN1_STRING_get0_data(name->d.iPAddress), text.data(),
                    static_cast<socklen_t>(text.size())) != nullptr) {
        names.emplace_back(text.data());
      }
    }
  }
  ERR_clear_error();
  if (!names.empty()) return names;
  std::array<char, 256> common_name{};
  const int length = X509_NAME_get_text_by_NID(X509_get_subject_name(&certificate), NID_commonName, common_name.data(),
                                               static_cast<int>(common_name.size()));
  if (length > 0) names.push_back(Printable({common_name.data(), static_cast<size_t>(length)}));
  return names;
}

absl::StatusOr<PeerVerifier> PeerVerifier::System() {
  // Read at start, before any thread that could change the environment.
  const char* configured = std::getenv("SSL_CERT_FILE");  // NOLINT(concurrency-mt-unsafe)
  const bool from_environment = configured != nullptr && *configured != '\0';
  absl::StatusOr<PeerVerifier> verifier = FromFile(from_environment ? configured : kSystemTrustFile);
  if (verifier.ok()) return verifier;
  return Annotate(verifier.status(), "the trust store {}",
                  from_environment ? "of $SSL_CERT_FILE" : "of the system (package ca-certificates)");
}

absl::StatusOr<PeerVerifier> PeerVerifier::FromFile(const std::filesystem::path& path) {
  const absl::StatusOr<ech::StateFile> file = ech::ReadStateFile(path);
  if (!file.ok()) return file.status();
  const auto certificates = ParseCertificates(file->text, path.string());
  if (!certificates.ok()) return certificates.status();
  PeerVerifier verifier;
  verifier.anchors_.reset(X509_STORE_new());
  verifier.anchors_source_ = path.string();
  if (verifier.anchors_ == nullptr) return Internal("no memory for trust anchors");
  // Whoever puts a leaf or an intermediate into the file means it to be trusted, so a chain may end there.
  X509_STORE_set_flags(verifier.anchors_.get(), X509_V_FLAG_PARTIAL_CHAIN);
  for (const auto& certificate : *certificates) {
    if (X509_STORE_add_cert(verifier.anchors_.get(), certificate.get()) != 1) {
      return InvalidArgument("{}: a certificate was refused: {}", path.string(), ech::TakeBoringSslError());
    }
  }
  return verifier;
}

absl::StatusOr<PeerVerifier> PeerVerifier::FromPins(std::vector<Pin> pins) {
  if (pins.empty()) return InvalidArgument("no pins");
  PeerVerifier verifier;
  verifier.pins_ = std::move(pins);
  return verifier;
}

void PeerVerifier::AddPins(std::vector<Pin> pins) { pins_.insert(pins_.end(), pins.begin(), pins.end()); }

VerifyFailure PeerVerifier::CheckPins(const X509& leaf) const {
  const absl::StatusOr<Pin> pin = PinOf(leaf);
  if (!pin.ok()) return {pin.status(), SSL_AD_BAD_CERTIFICATE};
  bool found = false;
  for (const Pin& wanted : pins_) found |= CRYPTO_memcmp(wanted.data(), pin->data(), pin->size()) == 0;
  if (found) return {};
  return Failure(SSL_AD_CERTIFICATE_UNKNOWN, fmt::format("the server's public key {} is not pinned", FormatPin(*pin)));
}

VerifyFailure PeerVerifier::CheckChain(X509* leaf, STACK_OF(X509) * rest, const std::string& name) const {
  const bssl::UniquePtr<X509_STORE_CTX> context(X509_STORE_CTX_new());
  if (context == nullptr || X509_STORE_CTX_init(context.get(), anchors_.get(), leaf, rest) != 1 ||
      X509_STORE_CTX_set_default(context.get(), "ssl_server") != 1) {
    return {Internal("certificates cannot be verified: {}", ech::TakeBoringSslError()), SSL_AD_INTERNAL_ERROR};
  }
  if (X509_verify_cert(context.get()) != 1) {
    const int error = X509_STORE_CTX_get_error(context.get());
    const X509* at = X509_STORE_CTX_get_current_cert(context.get());
    if (at == nullptr) at = leaf;
    ERR_clear_error();
    const std::string which = X509_STORE_CTX_get_error_depth(context.get()) == 0
                                  ? fmt::format("the certificate for {}", Joined(NamesOf(*leaf)))
                                  : fmt::format("the issuer '{}'", NameText(X509_get_subject_name(at)));
    switch (error) {
      case X509_V_ERR_CERT_HAS_EXPIRED:
        return Failure(SSL_AD_CERTIFICATE_EXPIRED,
                       fmt::format("{} expired on {}", which, TimeText(X509_get0_notAfter(at))));
      case X509_V_ERR_CERT_NOT_YET_VALID:
        return Failure(SSL_AD_CERTIFICATE_UNKNOWN,
                       fmt::format("{} is valid only from {}", which, TimeText(X509_get0_notBefore(at))));
      case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
      case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
      case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
      case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
      case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
      case X509_V_ERR_CERT_UNTRUSTED:
        return Failure(SSL_AD_UNKNOWN_CA, fmt::format("{} was issued by '{}', which {} does not trust", which,
                                                      NameText(X509_get_issuer_name(at)), anchors_source_));
      default:
        return Failure(SSL_AD_BAD_CERTIFICATE, fmt::format("{}: {}", which, X509_verify_cert_error_string(error)));
    }
  }
  const int matches = IsIpAddress(name) ? X509_check_ip_asc(leaf, name.c_str(), 0)
                                        : X509_check_host(leaf, name.data(), name.size(), 0, nullptr);
  ERR_clear_error();
  if (matches == 1) return {};
  return Failure(SSL_AD_CERTIFICATE_UNKNOWN,
                 fmt::format("the certificate is for {}, not for {}", Joined(NamesOf(*leaf)), name));
}

VerifyFailure PeerVerifier::Verify(const STACK_OF(CRYPTO_BUFFER) * chain, const std::string& name) const {
  ERR_clear_error();
  bssl::UniquePtr<X509> leaf;
  const bssl::UniquePtr<STACK_OF(X509)> rest(sk_X509_new_null());
  if (rest == nullptr) return {Internal("no memory for certificates"), SSL_AD_INTERNAL_ERROR};
  for (size_t i = 0; chain != nullptr && i < sk_CRYPTO_BUFFER_num(chain); ++i) {
    bssl::UniquePtr<X509> certificate(X509_parse_from_buffer(sk_CRYPTO_BUFFER_value(chain, i)));
    if (certificate == nullptr) {
      return Failure(SSL_AD_BAD_CERTIFICATE,
                     fmt::format("certificate {} of the chain is malformed: {}", i + 1, ech::TakeBoringSslError()));
    }
    if (i == 0) {
      leaf = std::move(certificate);
    } else if (!bssl::PushToStack(rest.get(), std::move(certificate))) {
      return {Internal("no memory for certificates"), SSL_AD_INTERNAL_ERROR};
    }
  }
  if (leaf == nullptr) return Failure(SSL_AD_BAD_CERTIFICATE, "the server sent no certificate");
  if (!pins_.empty()) {
    if (VerifyFailure failure = CheckPins(*leaf); !failure.status.ok()) return failure;
  }
  if (anchors_ == nullptr) return {};
  return CheckChain(leaf.get(), rest.get(), name);
}

}  // namespace tunnel::net
