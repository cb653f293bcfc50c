#include "proto/socks5_udp.h"

#include <gtest/gtest.h>

#include <array>
#include <string>
#include <vector>

namespace tunnel::proto {
namespace {

std::vector<uint8_t> Bytes(std::string_view text) { return {text.begin(), text.end()}; }

std::string Encoded(const Target& target) {
  std::array<uint8_t, kSocks5MaxUdpHeaderBytes> out{};
  out.fill(0xee);
  const size_t size = EncodeSocks5Udp(out, target);
  return {out.begin(), out.begin() + static_cast<ptrdiff_t>(size)};
}

using std::string_literals::operator""s;

TEST(Socks5Udp, ReadsEveryKindOfAddress) {
  struct Case {
    std::string header;
    Target target;
  };
  const std::vector<Case> cases = {
      {"\0\0\0\x01\x7f\0\0\x01\0\x35"s, {.host = "127.0.0.1", .port = 53}},
      {"\0\0\0\x04\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x01\xbb"s, {.host = "2001:db8::1", .port = 443}},
      {"\0\0\0\x03\x0b"s + "example.com"s + "\xff\xff"s, {.host = "example.com", .port = 65535}},
      {"\0\0\0\x03\xff"s + std::string(255, 'a') + "\0\x01"s, {.host = std::string(255, 'a'), .port = 1}},
  };
  for (const Case& one : cases) {
    for (const std::string& payload : {""s, "payload"s, "\0"s}) {
      Target target;
      const Socks5UdpResult result = DecodeSocks5Udp(Bytes(one.header + payload), target);
      ASSERT_TRUE(result.ok) << result.reason;
      EXPECT_EQ(result.header_bytes, one.header.size());
      EXPECT_EQ(target, one.target);
    }
    EXPECT_EQ(Encoded(one.target), one.header);
    for (size_t cut = 0; cut < one.header.size(); ++cut) {
      Target target;
      EXPECT_FALSE(DecodeSocks5Udp(Bytes(one.header.substr(0, cut)), target).ok) << cut;
    }
  }
}

TEST(Socks5Udp, Refuses) {
  struct Case {
    std::string datagram;
    std::string_view reason;
  };
  const std::string v4 = "\x01\x7f\0\0\x01\0\x35"s;
  const std::vector<Case> cases = {
      {"", "too short for a header"},
      {"\0\0\0"s, "too short for a header"},
      {"\0\0\0\x03"s, "too short for its address"},
      {"\x01\0\0"s + v4, "the reserved bytes are not zero"},
      {"\0\x01\0"s + v4, "the reserved bytes are not zero"},
      {"\0\0\x01"s + v4, "a fragment"},
      {"\0\0\x81"s + v4, "a fragment"},
      {"\0\0\0\x02\x7f\0\0\x01\0\x35"s, "unknown address type"},
      {"\0\0\0\0\x7f\0\0\x01\0\x35"s, "unknown address type"},
      {"\0\0\0\x01\x7f\0\0\x01\0\0x"s, "port 0"},
      {"\0\0\0\x03\0\0\x35"s, "the host name is not valid"},
      {"\0\0\0\x03\x03"s + "a b\0\x35"s, "the host name is not valid"},
      {"\0\0\0\x03\x03"s + "a\0b\0\x35"s, "the host name is not valid"},
      {"\0\0\0\x03\x05"s + "127.1\0\x35"s, "the host name is not valid"},
      {"\0\0\0\x03\x03"s + "a|b\0\x35"s, "the host name is not valid"},
  };
  for (const Case& one : cases) {
    Target target;
    const Socks5UdpResult result = DecodeSocks5Udp(Bytes(one.datagram), target);
    EXPECT_FALSE(result.ok);
    EXPECT_EQ(result.reason, one.reason);
    EXPECT_EQ(result.header_bytes, 0U);
  }
}

TEST(Socks5Udp, ANameThatIsAnAddressIsSentBackAsOne) {
  Target target;
  ASSERT_TRUE(DecodeSocks5Udp(Bytes("\0\0\0\x03\x09"s + "127.0.0.1\0\x35"s), target).ok);
  EXPECT_EQ(Encoded(target), "\0\0\0\x01\x7f\0\0\x01\0\x35"s);
}

}  // namespace
}  // namespace tunnel::proto
