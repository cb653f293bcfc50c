// Client and server engines joined in memory, for the tests of TLS.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ech/key_store.h"
#include "ech/state_file.h"
#include "net/made_certificate.h"
#include "net/tls_context.h"
#include "net/tls_engine.h"

namespace tunnel::net {

inline constexpr const char* kInner = "inner.secret.test";
inline constexpr const char* kOuter = "outer.public.test";

using Bytes = std::vector<uint8_t>;

inline bool Contains(const Bytes& haystack, std::string_view needle) {
  return std::string_view(reinterpret_cast<const char*>(haystack.data()), haystack.size()).find(needle) !=
         std::string_view::npos;
}

class TlsEngineTest : public ::testing::Test {
 protected:
  using State = TlsEngine::HandshakeState;

  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "tls_engine_XXXXXX").string();
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    root_ = pattern;
    UseCertificate({kInner, kOuter, "127.0.0.1", "::1"}, std::chrono::system_clock::now() - std::chrono::hours(1),
                   std::chrono::system_clock::now() + std::chrono::hours(100));
  }
  void TearDown() override { std::filesystem::remove_all(root_); }

  // Makes the server present such a certificate; ca_ is a file with it.
  void UseCertificate(const std::vector<std::string>& names, std::chrono::system_clock::time_point from,
                      std::chrono::system_clock::time_point to) {
    auto pair = MakeSelfSigned(names, from, to);
    ASSERT_TRUE(pair.ok()) << pair.status();
    ca_ = root_ / "ca.pem";
    ASSERT_TRUE(ech::WriteStateFile(ca_, pair->certificate_pem, 0644).ok());
    auto server =
        TlsServerContext::FromPem(pair->certificate_pem, "cert", pair->key_pem.Reveal(), "key", {"h2", "http/1.1"});
    ASSERT_TRUE(server.ok()) << server.status();
    server_context_ = *std::move(server);
  }

  static ech::EchKey MakeKey() {
    auto key = ech::GenerateKey(kOuter, 64, {}, std::chrono::system_clock::now());
    EXPECT_TRUE(key.ok()) << key.status();
    return *std::move(key);
  }

  // Gives the server new ECH keys and returns the list it publishes.
  Bytes UseEch() {
    std::vector<ech::EchKey> keys;
    keys.push_back(MakeKey());
    auto store = ech::KeyStore::FromKeys(std::move(keys));
    EXPECT_TRUE(store.ok());
    EXPECT_TRUE(server_context_->SetEchKeys(*store).ok());
    return store->PublishedList();
  }

  void UseClient(const TlsClientOptions& options) {
    auto context = TlsClientContext::Create(options);
    ASSERT_TRUE(context.ok()) << context.status();
    client_context_ = *std::move(context);
  }

  void Connect(const TlsClientHandshake& handshake) {
    if (client_context_ == nullptr) UseClient({.ca_file = ca_, .alpn = {"http/1.1"}});
    auto client = TlsEngine::Client(*client_context_, handshake);
    ASSERT_TRUE(client.ok()) << client.status();
    client_ = *std::move(client);
    auto server = TlsEngine::Server(*server_context_);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    to_server_.clear();
  }

  // Carries bytes in pieces until neither side has anything to say.
  void Shake(size_t piece = SIZE_MAX) {
    client_state_ = client_->Handshake();
    server_state_ = server_->Handshake();
    bool moved = true;
    while (moved) {
      moved = false;
      if (Bytes sent = client_->TakeOutput(); !sent.empty()) {
        to_server_.insert(to_server_.end(), sent.begin(), sent.end());
        server_state_ = Deliver(*server_, sent, piece);
        moved = true;
      }
      if (const Bytes sent = server_->TakeOutput(); !sent.empty()) {
        client_state_ = Deliver(*client_, sent, piece);
        moved = true;
      }
    }
  }

  static State Deliver(TlsEngine& to, const Bytes& bytes, size_t piece) {
    State state = State::kWant;
    std::span<const uint8_t> rest = bytes;
    while (!rest.empty()) {
      // An allocation of its own, so that the sanitizer sees a read past it or after it.
      const Bytes part(rest.begin(), rest.begin() + static_cast<std::ptrdiff_t>(std::min(piece, rest.size())));
      rest = rest.subspan(part.size());
      to.FeedCiphertext(part);
      state = to.Handshake();
      to.KeepInput();
    }
    return state;
  }

  void ExpectBothDone() const {
    EXPECT_EQ(client_state_, State::kDone) << client_->failure().status;
    EXPECT_EQ(server_state_, State::kDone) << server_->failure().status;
  }

  // What `from` has put out, decrypted by `to`.
  static std::string Receive(TlsEngine& from, TlsEngine& to, size_t piece = SIZE_MAX, size_t out_size = 5000) {
    const Bytes sent = from.TakeOutput();
    std::string got;
    std::span<const uint8_t> rest = sent;
    do {
      const auto part = rest.first(std::min(piece, rest.size()));
      rest = rest.subspan(part.size());
      to.FeedCiphertext(part);
      Bytes out(out_size);
      for (;;) {
        const TlsEngine::ReadResult result = to.ReadPlaintext(out);
        if (result.state != TlsEngine::ReadState::kData) break;
        got.append(out.begin(), out.begin() + static_cast<std::ptrdiff_t>(result.bytes));
      }
    } while (!rest.empty());
    return got;
  }

  void ExpectClientFails(TlsFailureKind kind, const std::string& words) const {
    EXPECT_EQ(client_state_, State::kFailed);
    EXPECT_EQ(client_->failure().kind, kind) << client_->failure().status;
    EXPECT_THAT(std::string(MessageOf(client_->failure().status)), ::testing::HasSubstr(words));
  }

  std::filesystem::path root_;
  std::filesystem::path ca_;
  std::unique_ptr<TlsServerContext> server_context_;
  std::unique_ptr<TlsClientContext> client_context_;
  std::unique_ptr<TlsEngine> client_;
  std::unique_ptr<TlsEngine> server_;
  State client_state_ = State::kWant;
  State server_state_ = State::kWant;
  Bytes to_server_;
};

}  // namespace tunnel::net
