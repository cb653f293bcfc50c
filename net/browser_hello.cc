#include "net/browser_hello.h"

#include <brotli/decode.h>
#include <openssl/pool.h>

#include <array>

#include "ech/boringssl_error.h"

namespace tunnel::net {
namespace {

// In Chrome's order.
constexpr std::array<uint16_t, 8> kSignatureAlgorithms = {
    SSL_SIGN_ECDSA_SECP256R1_SHA256, SSL_SIGN_RSA_PSS_RSAE_SHA256, SSL_SIGN_RSA_PKCS1_SHA256,
    SSL_SIGN_ECDSA_SECP384R1_SHA384, SSL_SIGN_RSA_PSS_RSAE_SHA384, SSL_SIGN_RSA_PKCS1_SHA384,
    SSL_SIGN_RSA_PSS_RSAE_SHA512,    SSL_SIGN_RSA_PKCS1_SHA512};

// A certificate chain in Brotli (RFC 8879). BoringSSL has bounded `length` by what it takes of a chain.
int DecompressBrotli(SSL* /*ssl*/, CRYPTO_BUFFER** out, size_t length, const uint8_t* in, size_t in_length) {
  uint8_t* data = nullptr;
  bssl::UniquePtr<CRYPTO_BUFFER> plain(CRYPTO_BUFFER_alloc(&data, length));
  size_t written = length;
  if (plain == nullptr || BrotliDecoderDecompress(in_length, in, &written, data) != BROTLI_DECODER_RESULT_SUCCESS ||
      written != length) {
    return 0;
  }
  *out = plain.release();
  return 1;
}

}  // namespace

absl::Status LookLikeABrowser(SSL_CTX* ctx) {
  SSL_CTX_set_grease_enabled(ctx, 1);
  SSL_CTX_set_permute_extensions(ctx, 1);
  SSL_CTX_enable_ocsp_stapling(ctx);
  SSL_CTX_enable_signed_cert_timestamps(ctx);
  bool taken = SSL_CTX_set_strict_cipher_list(ctx, "ALL:!aPSK:!ECDSA+SHA1:!3DES") == 1 &&
               SSL_CTX_set_verify_algorithm_prefs(ctx, kSignatureAlgorithms.data(), kSignatureAlgorithms.size()) == 1 &&
               SSL_CTX_add_cert_compression_alg(ctx, TLSEXT_cert_compression_brotli, nullptr, DecompressBrotli) == 1;
#ifdef SSL_GROUP_X25519_MLKEM768
  constexpr std::array<uint16_t, 4> kGroups = {SSL_GROUP_X25519_MLKEM768, SSL_GROUP_X25519, SSL_GROUP_SECP256R1,
                                               SSL_GROUP_SECP384R1};
  taken = taken && SSL_CTX_set1_group_ids(ctx, kGroups.data(), kGroups.size()) == 1;
#endif
  if (!taken) return Internal("TLS cannot be set up: {}", ech::TakeBoringSslError());
  return absl::OkStatus();
}

}  // namespace tunnel::net
