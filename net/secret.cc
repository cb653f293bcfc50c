#include "net/secret.h"

#include <openssl/mem.h>
#include <openssl/sha.h>

#include <array>
#include <cstdint>

#include "ech/state_file.h"

namespace tunnel::net {
namespace {

using Digest = std::array<uint8_t, SHA256_DIGEST_LENGTH>;

Digest DigestOf(std::string_view text) {
  Digest digest{};
  SHA256(reinterpret_cast<const uint8_t*>(text.data()), text.size(), digest.data());
  return digest;
}

}  // namespace

void Secret::Wipe() { ech::WipeString(text_); }

Secret::~Secret() { Wipe(); }

Secret& Secret::operator=(const Secret& other) {
  if (this != &other) {
    Wipe();
    text_ = other.text_;
  }
  return *this;
}

// Short strings are moved by copying their bytes, so the source is wiped in any case.
Secret::Secret(Secret&& other) noexcept : text_(std::move(other.text_)) { other.Wipe(); }

Secret& Secret::operator=(Secret&& other) noexcept {
  if (this != &other) {
    Wipe();
    text_ = std::move(other.text_);
    other.Wipe();
  }
  return *this;
}

bool SecretEquals(const Secret& secret, std::string_view given) {
  Digest ours = DigestOf(secret.Reveal());
  const Digest theirs = DigestOf(given);
  const bool equal = CRYPTO_memcmp(ours.data(), theirs.data(), ours.size()) == 0;
  OPENSSL_cleanse(ours.data(), ours.size());
  return equal;
}

}  // namespace tunnel::net
