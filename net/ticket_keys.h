// What a server seals the tickets with that it gives to its clients (RFC 8446 section 4.6.1): one set of keys for all
// cores and contexts of a process, so that a client may come back to any of them.
//
//   ticket = 8 bytes that name the key, 12 bytes of nonce, AES-256-GCM of BoringSSL's session and 16 bytes of tag
//
// Keys are random and live in memory only: tickets end with the process, or with the second rotation.
#pragma once

#include <openssl/aead.h>
#include <openssl/ssl.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>

#include "core/status.h"

namespace tunnel::net {

// How long a ticket is good for, and how often keys change: a key is kept as long again to open what it sealed.
inline constexpr std::chrono::hours kTicketLife{24};

// Any thread: a handshake may end on another core than it began on. Cold: a few calls a handshake.
class TicketKeys {
 public:
  [[nodiscard]] static absl::StatusOr<std::shared_ptr<TicketKeys>> Create();
  TicketKeys(const TicketKeys&) = delete;
  TicketKeys& operator=(const TicketKeys&) = delete;

  // A new key seals from now on; the one that did until now opens until the next call.
  [[nodiscard]] absl::Status Rotate();

  // Makes `ctx` give tickets out and take them back, with early data. The keys must outlive it.
  void ApplyTo(SSL_CTX* ctx);

 private:
  static constexpr size_t kNameBytes = 8;
  static constexpr size_t kNonceBytes = 12;
  static constexpr size_t kTagBytes = 16;
  struct Key {
    std::array<uint8_t, kNameBytes> name{};
    bssl::ScopedEVP_AEAD_CTX aead;
  };

  TicketKeys() = default;
  static int ContextIndex();
  static TicketKeys& Of(SSL* ssl);
  static size_t MaxOverhead(SSL* ssl);
  static int Seal(SSL* ssl, uint8_t* out, size_t* out_length, size_t max_out_length, const uint8_t* in,
                  size_t in_length);
  static ssl_ticket_aead_result_t Open(SSL* ssl, uint8_t* out, size_t* out_length, size_t max_out_length,
                                       const uint8_t* in, size_t in_length);

  std::mutex mutex_;
  std::shared_ptr<const Key> current_;   // guarded by mutex_
  std::shared_ptr<const Key> previous_;  // guarded by mutex_
};

}  // namespace tunnel::net
