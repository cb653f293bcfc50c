#include "net/made_certificate.h"

#include <arpa/inet.h>
#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/bytestring.h>
#include <openssl/ec_key.h>
#include <openssl/evp.h>
#include <openssl/nid.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <ctime>
#include <utility>

#include "ech/boringssl_error.h"
#include "ech/state_file.h"
#include "net/peer_verifier.h"
#include "net/tls_context.h"

namespace tunnel::net {
namespace {

using std::chrono::system_clock;

constexpr size_t kCommonNameLimit = 64;  // ub-common-name, RFC 5280 appendix A.1

// The bytes of an IP address in text, 4 or 16; empty when it is none.
std::vector<uint8_t> IpBytes(const std::string& text) {
  std::vector<uint8_t> bytes(16);
  if (inet_pton(AF_INET6, text.c_str(), bytes.data()) == 1) return bytes;
  bytes.resize(4);
  if (inet_pton(AF_INET, text.c_str(), bytes.data()) == 1) return bytes;
  return {};
}

bssl::UniquePtr<EVP_PKEY> MakeP256Key() {
  bssl::UniquePtr<EC_KEY> ec(EC_KEY_new_by_curve_name(NID_X9_62_prime256v1));
  bssl::UniquePtr<EVP_PKEY> key(EVP_PKEY_new());
  if (ec == nullptr || key == nullptr || EC_KEY_generate_key(ec.get()) != 1 ||
      EVP_PKEY_set1_EC_KEY(key.get(), ec.get()) != 1) {
    return nullptr;
  }
  return key;
}

bool SetSerial(X509* certificate) {
  std::array<uint8_t, 16> random{};
  RAND_bytes(random.data(), random.size());                     // layers: allow, keys are BoringSSL's affair
  random[0] = static_cast<uint8_t>((random[0] & 0x7f) | 0x40);  // positive, and always of the same length
  const bssl::UniquePtr<BIGNUM> number(BN_bin2bn(random.data(), random.size(), nullptr));
  return number != nullptr && BN_to_ASN1_INTEGER(number.get(), X509_get_serialNumber(certificate)) != nullptr;
}

bool SetNames(X509* certificate, std::span<const std::string> names) {
  const bssl::UniquePtr<GENERAL_NAMES> alternatives(GENERAL_NAMES_new());
  if (alternatives == nullptr) return false;
  for (const std::string& name : names) {
    bssl::UniquePtr<GENERAL_NAME> entry(GENERAL_NAME_new());
    const std::vector<uint8_t> ip = IpBytes(name);
    ASN1_STRING* value = ip.empty() ? ASN1_IA5STRING_new() : ASN1_OCTET_STRING_new();
    if (entry == nullptr || value == nullptr) return false;
    GENERAL_NAME_set0_value(entry.get(), ip.empty() ? GEN_DNS : GEN_IPADD, value);
    const int set = ip.empty() ? ASN1_STRING_set(value, name.data(), static_cast<int>(name.size()))
                               : ASN1_STRING_set(value, ip.data(), static_cast<int>(ip.size()));
    if (set != 1 || !bssl::PushToStack(alternatives.get(), std::move(entry))) return false;
  }
  const std::string common_name = names.front().substr(0, kCommonNameLimit);
  X509_NAME* const subject = X509_get_subject_name(certificate);
  return X509_NAME_add_entry_by_NID(subject, NID_commonName, MBSTRING_UTF8,
                                    reinterpret_cast<const uint8_t*>(common_name.data()),
                                    static_cast<int>(common_name.size()), -1, 0) == 1 &&
         X509_set_issuer_name(certificate, subject) == 1 &&
         X509_add1_ext_i2d(certificate, NID_subject_alt_name, alternatives.get(), 0, 0) == 1;
}

// No key usage: one without keyCertSign makes verifiers not see the certificate as its own issuer, and one with it
// calls for CA:TRUE, which would make a stolen server key a CA for every name.
bool SetExtensions(X509* certificate) {
  const bssl::UniquePtr<BASIC_CONSTRAINTS> constraints(BASIC_CONSTRAINTS_new());
  const bssl::UniquePtr<EXTENDED_KEY_USAGE> usage(sk_ASN1_OBJECT_new_null());
  const bssl::UniquePtr<ASN1_OCTET_STRING> key_id(ASN1_OCTET_STRING_new());
  if (constraints == nullptr || usage == nullptr || key_id == nullptr) return false;
  constraints->ca = 0;
  ASN1_OBJECT* const server_auth = OBJ_nid2obj(NID_server_auth);  // static, freeing it does nothing
  if (sk_ASN1_OBJECT_push(usage.get(), server_auth) == 0) return false;
  const ASN1_BIT_STRING* public_key = X509_get0_pubkey_bitstr(certificate);
  std::array<uint8_t, SHA_DIGEST_LENGTH> digest{};  // RFC 5280 section 4.2.1.2, method 1: an identifier, not security
  SHA1(ASN1_STRING_get0_data(public_key), static_cast<size_t>(ASN1_STRING_length(public_key)), digest.data());
  return ASN1_OCTET_STRING_set(key_id.get(), digest.data(), static_cast<int>(digest.size())) == 1 &&
         X509_add1_ext_i2d(certificate, NID_basic_constraints, constraints.get(), 1, 0) == 1 &&
         X509_add1_ext_i2d(certificate, NID_ext_key_usage, usage.get(), 0, 0) == 1 &&
         X509_add1_ext_i2d(certificate, NID_subject_key_identifier, key_id.get(), 0, 0) == 1;
}

std::string Contents(BIO* bio) {
  const uint8_t* bytes = nullptr;
  size_t length = 0;
  if (BIO_mem_contents(bio, &bytes, &length) != 1) return {};
  return {reinterpret_cast<const char*>(bytes), length};
}

bool EqualNames(const std::string& a, const std::string& b) {
  const std::vector<uint8_t> ip = IpBytes(a);
  if (!ip.empty()) return ip == IpBytes(b);
  return std::ranges::equal(a, b, [](unsigned char x, unsigned char y) { return std::tolower(x) == std::tolower(y); });
}

// Why the kept certificate cannot be used again; empty when it can.
absl::StatusOr<std::string> ReasonToMake(const KeptCertificate& kept, std::span<const std::string> names,
                                         system_clock::time_point now) {
  const absl::StatusOr<ech::StateFile> file = ech::ReadStateFile(kept.certificate_file);
  if (file.status().code() == absl::StatusCode::kNotFound) return std::string("there was none");
  if (!file.ok()) return file.status();
  const auto certificates = ParseCertificates(file->text, kept.certificate_file.string());
  if (!certificates.ok()) return std::string(MessageOf(certificates.status()));
  absl::StatusOr<ech::StateFile> key = ech::ReadStateFile(kept.key_file);
  if (key.status().code() == absl::StatusCode::kNotFound) return std::string("its private key is gone");
  if (!key.ok()) return key.status();
  const auto usable =
      TlsServerContext::FromPem(file->text, kept.certificate_file.string(), key->text, kept.key_file.string(), {});
  ech::WipeString(key->text);
  if (!usable.ok()) return std::string(MessageOf(usable.status()));
  const X509& certificate = *certificates->front();
  std::time_t renewal = system_clock::to_time_t(now + kMadeCertificateRenewal);
  if (X509_cmp_time(X509_get0_notAfter(&certificate), &renewal) <= 0)
    return std::string("it had less than 30 days left");
  std::time_t today = system_clock::to_time_t(now);
  if (X509_cmp_time(X509_get0_notBefore(&certificate), &today) > 0) return std::string("it was not valid yet");
  const std::vector<std::string> covered = NamesOf(certificate);
  for (const std::string& name : names) {
    if (std::ranges::none_of(covered, [&](const std::string& have) { return EqualNames(have, name); })) {
      return fmt::format("it was not for {}", name);
    }
  }
  return std::string();
}

}  // namespace

absl::StatusOr<CertificatePair> MakeSelfSigned(std::span<const std::string> names, system_clock::time_point not_before,
                                               system_clock::time_point not_after) {
  if (names.empty()) return InvalidArgument("a certificate needs at least one name");
  for (const std::string& name : names) {
    if (name.empty() || std::ranges::any_of(name, [](char c) { return c <= 0x20 || c > 0x7e; })) {
      return InvalidArgument("'{}' is not a name for a certificate", name);
    }
  }
  const bssl::UniquePtr<EVP_PKEY> key = MakeP256Key();
  const bssl::UniquePtr<X509> certificate(X509_new());
  if (key == nullptr || certificate == nullptr || X509_set_version(certificate.get(), 2) != 1 ||
      !SetSerial(certificate.get()) ||
      ASN1_TIME_set(X509_getm_notBefore(certificate.get()), system_clock::to_time_t(not_before)) == nullptr ||
      ASN1_TIME_set(X509_getm_notAfter(certificate.get()), system_clock::to_time_t(not_after)) == nullptr ||
      X509_set_pubkey(certificate.get(), key.get()) != 1 || !SetNames(certificate.get(), names) ||
      !SetExtensions(certificate.get()) || X509_sign(certificate.get(), key.get(), EVP_sha256()) <= 0) {
    return Internal("a certificate cannot be made: {}", ech::TakeBoringSslError());
  }
  const bssl::UniquePtr<BIO> certificate_bio(BIO_new(BIO_s_mem()));
  const bssl::UniquePtr<BIO> key_bio(BIO_new(BIO_s_mem()));
  if (certificate_bio == nullptr || key_bio == nullptr ||
      PEM_write_bio_X509(certificate_bio.get(), certificate.get()) != 1 ||
      PEM_write_bio_PKCS8PrivateKey(key_bio.get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr) != 1) {
    return Internal("a certificate cannot be written: {}", ech::TakeBoringSslError());
  }
  return CertificatePair{Contents(certificate_bio.get()), Secret(Contents(key_bio.get()))};
}

absl::StatusOr<KeptCertificate> LoadOrMakeCertificate(const std::filesystem::path& directory,
                                                      std::span<const std::string> names,
                                                      system_clock::time_point now) {
  KeptCertificate kept{directory / "cert.pem", directory / "key.pem", false, {}};
  absl::StatusOr<std::string> reason = ReasonToMake(kept, names, now);
  if (!reason.ok()) return reason.status();
  if (reason->empty()) return kept;
  const absl::StatusOr<CertificatePair> pair =
      MakeSelfSigned(names, now - kMadeCertificateBackdate, now - kMadeCertificateBackdate + kMadeCertificateLife);
  if (!pair.ok()) return pair.status();
  TUNNEL_RETURN_IF_ERROR(ech::MakeStateDirectory(directory));
  // A crash between the two leaves a key that is not the certificate's, which the next start sees and mends.
  TUNNEL_RETURN_IF_ERROR(ech::WriteStateFile(kept.key_file, pair->key_pem.Reveal(), 0600));
  TUNNEL_RETURN_IF_ERROR(ech::WriteStateFile(kept.certificate_file, pair->certificate_pem, 0644));
  kept.made = true;
  kept.why_made = *std::move(reason);
  return kept;
}

absl::StatusOr<std::vector<std::string>> CertificateNames(std::string_view pem, std::string_view source) {
  const auto certificates = ParseCertificates(pem, source);
  if (!certificates.ok()) return certificates.status();
  return NamesOf(*certificates->front());
}

}  // namespace tunnel::net
