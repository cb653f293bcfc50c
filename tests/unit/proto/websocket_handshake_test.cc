#include "proto/websocket_handshake.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>

#include "proto/sha1.h"
#include "tests/unit/proto/guarded_input.h"

namespace tunnel::proto {
namespace {

std::string HexSha1(std::string_view message) {
  std::string hex;
  for (const uint8_t byte : Sha1(AsBytes(message))) hex += fmt::format("{:02x}", byte);
  return hex;
}

TEST(Sha1, VectorsOfFips180) {
  EXPECT_EQ(HexSha1("abc"), "a9993e364706816aba3e25717850c26c9cd0d89d");
  EXPECT_EQ(HexSha1(""), "da39a3ee5e6b4b0d3255bfef95601890afd80709");
  EXPECT_EQ(HexSha1("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "84983e441c3bd26ebaae4aa1f95129e5e54670f1");
  EXPECT_EQ(HexSha1("abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrs"
                    "mnopqrstnopqrstu"),
            "a49b2446a02c645bf419f995b67091253a04a259");
  EXPECT_EQ(HexSha1(std::string(1'000'000, 'a')), "34aa973cd4c4daa4f61eeb2bdbad27316534016f");
}

// Around the sizes where the padding needs one block, two, or a block of its own. Digests by coreutils' sha1sum.
TEST(Sha1, PaddingBoundaries) {
  EXPECT_EQ(HexSha1(std::string(55, 'a')), "c1c8bbdc22796e28c0e15163d20899b65621d65a");
  EXPECT_EQ(HexSha1(std::string(56, 'a')), "c2db330f6083854c99d4b5bfb6e8f29f201be699");
  EXPECT_EQ(HexSha1(std::string(63, 'a')), "03f09f5b158a7a8cdad920bddc29b81c18a551f5");
  EXPECT_EQ(HexSha1(std::string(64, 'a')), "0098ba824b5c16427bd7a1122a5a442a25ec644d");
  EXPECT_EQ(HexSha1(std::string(65, 'a')), "11655326c708d70319be2610e8a57d9a5b959d3b");
  EXPECT_EQ(HexSha1(std::string(128, 'a')), "ad5b3fdbcb526778c2839d2f151ea753995e26a0");
}

TEST(WebSocketHandshake, ExampleOfRfc6455) {
  EXPECT_EQ(WebSocketAcceptFor("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
  std::array<uint8_t, 16> nonce;
  std::ranges::copy(std::string_view("the sample nonce"), nonce.begin());
  EXPECT_EQ(MakeWebSocketKey(nonce), "dGhlIHNhbXBsZSBub25jZQ==");
}

TEST(WebSocketHandshake, KeyIsSixteenBytesInBase64) {
  EXPECT_TRUE(IsWebSocketKey("dGhlIHNhbXBsZSBub25jZQ=="));
  EXPECT_TRUE(IsWebSocketKey("AAAAAAAAAAAAAAAAAAAAAA=="));
  for (const std::string_view key :
       {"", "dGhlIHNhbXBsZSBub25jZQ", "dGhlIHNhbXBsZSBub25jZQ= ", "dGhlIHNhbXBsZSBub25jZR==",
        "dGhlIHNhbXBsZSBub25jZWU=", "dGhlIHNhbXBsZSBub25jZWVl", "dGhlIHNhbXBsZSBub24=", "_GhlIHNhbXBsZSBub25jZQ==",
        " dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZQ==dGhlIHNhbXBsZSBub25jZQ=="}) {
    EXPECT_FALSE(IsWebSocketKey(key)) << key;
  }
}

}  // namespace
}  // namespace tunnel::proto
