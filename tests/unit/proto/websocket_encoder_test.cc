#include "proto/websocket_encoder.h"

#include <gtest/gtest.h>

#include <array>
#include <string>

#include "tests/unit/proto/websocket_transcript.h"

namespace tunnel::proto {
namespace {

constexpr MaskKey kKey = {0x37, 0xFA, 0x21, 0x3D};

std::string EncodeData(Role role, Opcode opcode, bool fin, std::string_view payload) {
  GuardedInput guarded;
  const auto out = guarded.Place(std::string(FrameHeaderBytes(role, payload.size()), '?'));
  EXPECT_EQ(EncodeFrameHeader(out, role, opcode, fin, payload.size(), kKey), out.size());
  std::string body(payload);
  if (role == Role::kClient) ApplyMask({reinterpret_cast<uint8_t*>(body.data()), body.size()}, kKey, 0);
  return AsString(out) + body;
}

class Encoder : public testing::TestWithParam<Role> {
 protected:
  std::string Read(const std::string& stream) { return TranscriptOf(stream, {.role = PeerOf(GetParam())}, 0); }
  std::array<uint8_t, kMaxControlFrameBytes> out_;
};
INSTANTIATE_TEST_SUITE_P(Roles, Encoder, testing::Values(Role::kClient, Role::kServer),
                         [](const auto& row) { return row.param == Role::kClient ? "Client" : "Server"; });

TEST_P(Encoder, HeadersAreReadBack) {
  for (const size_t size : {0U, 1U, 125U, 126U, 0xFFFFU, 0x10000U, 0x20000U}) {
    const std::string payload(size, 'x');
    EXPECT_EQ(Read(EncodeData(GetParam(), Opcode::kBinary, true, payload)), "B(" + payload + ");");
  }
  EXPECT_EQ(Read(EncodeData(GetParam(), Opcode::kText, false, "Hel") +
                 EncodeData(GetParam(), Opcode::kContinuation, true, "lo")),
            "T(Hello);");
}

TEST_P(Encoder, HeaderSizes) {
  const size_t mask = GetParam() == Role::kClient ? 4 : 0;
  EXPECT_EQ(FrameHeaderBytes(GetParam(), 0), 2 + mask);
  EXPECT_EQ(FrameHeaderBytes(GetParam(), 125), 2 + mask);
  EXPECT_EQ(FrameHeaderBytes(GetParam(), 126), 4 + mask);
  EXPECT_EQ(FrameHeaderBytes(GetParam(), 0xFFFF), 4 + mask);
  EXPECT_EQ(FrameHeaderBytes(GetParam(), 0x10000), 10 + mask);
  EXPECT_EQ(FrameHeaderBytes(GetParam(), kMax64BitPayloadBytes), 10 + mask);
  std::array<uint8_t, kMaxFrameHeaderBytes> out;
  EXPECT_EQ(EncodeFrameHeader(out, GetParam(), Opcode::kBinary, true, 0x0102030405060708, kKey), 10 + mask);
  EXPECT_EQ(AsString(std::span(out).subspan(2, 8)), "\1\2\3\4\5\6\7\b");
}

TEST_P(Encoder, PingAndPong) {
  for (const size_t size : {0U, 1U, 124U, 125U}) {
    const std::string payload(size, 'p');
    size_t bytes = EncodePing(out_, GetParam(), AsBytes(payload), kKey);
    EXPECT_EQ(Read(AsString(std::span(out_).first(bytes))), "ping(" + payload + ");");
    bytes = EncodePong(out_, GetParam(), AsBytes(payload), kKey);
    EXPECT_EQ(Read(AsString(std::span(out_).first(bytes))), "pong(" + payload + ");");
  }
}

TEST_P(Encoder, Close) {
  const std::string euro = "\xE2\x82\xAC";
  std::string euros;
  for (int i = 0; i < 50; ++i) euros += euro;
  const struct {
    uint16_t code;
    std::string reason;
    std::string line;
  } rows[] = {
      {kCloseNormal, "", "close 1000();"},
      {kCloseGoingAway, "bye", "close 1001(bye);"},
      {kCloseNoStatus, "", "close 1005();"},
      {kCloseTooBig, std::string(123, 'r'), "close 1009(" + std::string(123, 'r') + ");"},
      {kCloseTooBig, std::string(200, 'r'), "close 1009(" + std::string(123, 'r') + ");"},
      {kCloseProtocolError, euros, "close 1002(" + euros.substr(0, 123) + ");"},
      {kCloseProtocolError, "a" + euros, "close 1002(a" + euros.substr(0, 120) + ");"},
      {4999, "a\xFFz", "close 4999(a);"},
  };
  for (const auto& row : rows) {
    const size_t bytes = EncodeClose(out_, GetParam(), row.code, row.reason, kKey);
    EXPECT_EQ(Read(AsString(std::span(out_).first(bytes))), row.line);
  }
}

TEST(EncoderDeathTest, FramesThatMustNotExist) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  std::array<uint8_t, kMaxControlFrameBytes> out;
  const std::string long_payload(126, 'x');
  EXPECT_DEATH((void)EncodePing(out, Role::kServer, AsBytes(long_payload), kKey), "invariant");
  EXPECT_DEATH((void)EncodeClose(out, Role::kServer, 1006, "", kKey), "invariant");
  EXPECT_DEATH((void)EncodeFrameHeader(out, Role::kServer, Opcode::kPing, false, 0, kKey), "invariant");
  EXPECT_DEATH((void)EncodeFrameHeader(std::span(out).first(13), Role::kClient, Opcode::kBinary, true, 0x10000, kKey),
               "invariant");
}

}  // namespace
}  // namespace tunnel::proto
