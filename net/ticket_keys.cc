#include "net/ticket_keys.h"

#include <openssl/err.h>
#include <openssl/mem.h>
#include <openssl/rand.h>

#include <algorithm>
#include <utility>

#include "core/check.h"
#include "ech/boringssl_error.h"

namespace tunnel::net {

absl::StatusOr<std::shared_ptr<TicketKeys>> TicketKeys::Create() {
  std::shared_ptr<TicketKeys> keys(new TicketKeys());
  TUNNEL_RETURN_IF_ERROR(keys->Rotate());
  return keys;
}

absl::Status TicketKeys::Rotate() {
  auto key = std::make_shared<Key>();
  std::array<uint8_t, 32> secret{};
  const bool made =
      RAND_bytes(key->name.data(), key->name.size()) == 1 &&  // layers: allow, keys are BoringSSL's affair
      RAND_bytes(secret.data(), secret.size()) == 1 &&        // layers: allow, likewise
      EVP_AEAD_CTX_init(key->aead.get(), EVP_aead_aes_256_gcm(), secret.data(), secret.size(), kTagBytes, nullptr) == 1;
  OPENSSL_cleanse(secret.data(), secret.size());
  if (!made) return Internal("a key for tickets cannot be made: {}", ech::TakeBoringSslError());
  const std::lock_guard lock(mutex_);
  previous_ = std::exchange(current_, std::move(key));
  return absl::OkStatus();
}

void TicketKeys::ApplyTo(SSL_CTX* ctx) {
  static const SSL_TICKET_AEAD_METHOD method = {.max_overhead = MaxOverhead, .seal = Seal, .open = Open};
  TUNNEL_CHECK(SSL_CTX_set_ex_data(ctx, ContextIndex(), this) == 1);
  SSL_CTX_set_ticket_aead_method(ctx, &method);
  SSL_CTX_clear_options(ctx, SSL_OP_NO_TICKET);
  SSL_CTX_set_session_psk_dhe_timeout(ctx, static_cast<uint32_t>(std::chrono::seconds(kTicketLife).count()));
  SSL_CTX_set_early_data_enabled(ctx, 1);
}

int TicketKeys::ContextIndex() {
  static const int index = SSL_CTX_get_ex_new_index(0, nullptr, nullptr, nullptr, nullptr);
  return index;
}

TicketKeys& TicketKeys::Of(SSL* ssl) {
  return *static_cast<TicketKeys*>(SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), ContextIndex()));
}

size_t TicketKeys::MaxOverhead(SSL* /*ssl*/) { return kNameBytes + kNonceBytes + kTagBytes; }

int TicketKeys::Seal(SSL* ssl, uint8_t* out, size_t* out_length, size_t max_out_length, const uint8_t* in,
                     size_t in_length) {
  TicketKeys& self = Of(ssl);
  std::shared_ptr<const Key> key;
  {
    const std::lock_guard lock(self.mutex_);
    key = self.current_;
  }
  constexpr size_t kHeadBytes = kNameBytes + kNonceBytes;
  if (max_out_length < kHeadBytes) return 0;
  std::ranges::copy(key->name, out);
  uint8_t* const nonce = out + kNameBytes;
  const bool random = RAND_bytes(nonce, kNonceBytes) == 1;  // layers: allow, keys are BoringSSL's affair
  size_t sealed = 0;
  if (!random || EVP_AEAD_CTX_seal(key->aead.get(), out + kHeadBytes, &sealed, max_out_length - kHeadBytes, nonce,
                                   kNonceBytes, in, in_length, out, kNameBytes) != 1) {
    return 0;
  }
  *out_length = kHeadBytes + sealed;
  return 1;
}

ssl_ticket_aead_result_t TicketKeys::Open(SSL* ssl, uint8_t* out, size_t* out_length, size_t max_out_length,
                                          const uint8_t* in, size_t in_length) {
  constexpr size_t kHeadBytes = kNameBytes + kNonceBytes;
  if (in_length < kHeadBytes + kTagBytes) return ssl_ticket_aead_ignore_ticket;
  TicketKeys& self = Of(ssl);
  std::shared_ptr<const Key> key;
  {
    const std::lock_guard lock(self.mutex_);
    for (const auto& kept : {self.current_, self.previous_}) {
      if (kept != nullptr && std::equal(kept->name.begin(), kept->name.end(), in)) key = kept;
    }
  }
  // Another process's, an old one, or made up: a full handshake.
  if (key == nullptr) return ssl_ticket_aead_ignore_ticket;
  if (EVP_AEAD_CTX_open(key->aead.get(), out, out_length, max_out_length, in + kNameBytes, kNonceBytes, in + kHeadBytes,
                        in_length - kHeadBytes, in, kNameBytes) != 1) {
    ERR_clear_error();
    return ssl_ticket_aead_ignore_ticket;
  }
  return ssl_ticket_aead_success;
}

}  // namespace tunnel::net
