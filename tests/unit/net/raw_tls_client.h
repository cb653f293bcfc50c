// A TLS client of BoringSSL's own over a plain socket, so that a test sees records and may do what ours never does.
#pragma once

#include <gtest/gtest.h>
#include <openssl/ssl.h>

#include <array>
#include <string>
#include <string_view>
#include <utility>

#include "tests/unit/core/reactor_fixture.h"

namespace tunnel::net {

class RawTlsClient {
 public:
  explicit RawTlsClient(int descriptor) : peer(descriptor), context_(SSL_CTX_new(TLS_method())) {
    ssl_.reset(SSL_new(context_.get()));
    SSL_set_connect_state(ssl_.get());
    BIO* in = BIO_new(BIO_s_mem());
    BIO* out = BIO_new(BIO_s_mem());
    BIO_set_mem_eof_return(in, -1);
    SSL_set_bio(ssl_.get(), in, out);
  }

  // Moves what there is to move. To be called while turning.
  void Pump() {
    (void)peer.Pump();
    // A view of the whole of what came, for counting records; BoringSSL gets what is new.
    if (peer.received.size() > fed_) {
      (void)BIO_write(SSL_get_rbio(ssl_.get()), peer.received.data() + fed_,
                      static_cast<int>(peer.received.size() - fed_));
      fed_ = peer.received.size();
    }
    if (!done_) {
      done_ = SSL_do_handshake(ssl_.get()) == 1;
      if (!done_) {
        Flush();
        return;
      }
      records_from_ = fed_;
    }
    std::array<uint8_t, 16384> plain{};
    for (;;) {
      const int got = SSL_read(ssl_.get(), plain.data(), static_cast<int>(plain.size()));
      if (got <= 0) {
        closed = closed || SSL_get_error(ssl_.get(), got) == SSL_ERROR_ZERO_RETURN;
        break;
      }
      received.append(reinterpret_cast<const char*>(plain.data()), static_cast<size_t>(got));
    }
    Flush();
  }
  void Send(std::string_view text) {
    EXPECT_EQ(SSL_write(ssl_.get(), text.data(), static_cast<int>(text.size())), static_cast<int>(text.size()));
    if (!held_) Flush();
  }
  void SendCloseNotify() {
    (void)SSL_shutdown(ssl_.get());
    Flush();
  }
  void RequestKeyUpdate() {
    EXPECT_EQ(SSL_key_update(ssl_.get(), SSL_KEY_UPDATE_REQUESTED), 1);
    Flush();
  }
  // Keeps what is written until Release().
  void Hold() { held_ = true; }
  void Release() {
    held_ = false;
    Flush();
  }
  // Application data in TLS 1.3 hides what it is: all records behind the handshake. The session tickets that a server
  // sends are none here.
  [[nodiscard]] int records() const {
    int count = 0;
    for (size_t at = records_from_; at + 5 <= peer.received.size(); ++count) {
      at += 5 + static_cast<size_t>(static_cast<uint8_t>(peer.received[at + 3]) << 8 |
                                    static_cast<uint8_t>(peer.received[at + 4]));
    }
    return count;
  }
  [[nodiscard]] bool done() const { return done_; }

  core::testing::RawPeer peer;
  std::string received;
  bool closed = false;  // by close_notify

 private:
  void Flush() {
    if (held_) return;
    const uint8_t* data = nullptr;
    size_t size = 0;
    BIO* out = SSL_get_wbio(ssl_.get());
    if (BIO_mem_contents(out, &data, &size) == 1 && size > 0) {
      const size_t sent = peer.SendSome({reinterpret_cast<const char*>(data), size});
      std::string rest(reinterpret_cast<const char*>(data) + sent, size - sent);
      (void)BIO_reset(out);
      if (!rest.empty()) (void)BIO_write(out, rest.data(), static_cast<int>(rest.size()));
    }
  }

  bssl::UniquePtr<SSL_CTX> context_;
  bssl::UniquePtr<SSL> ssl_;
  size_t fed_ = 0;
  size_t records_from_ = 0;
  bool done_ = false;
  bool held_ = false;
};

}  // namespace tunnel::net
