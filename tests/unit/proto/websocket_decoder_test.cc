#include "proto/websocket_decoder.h"

#include <gtest/gtest.h>

#include <string>

#include "proto/websocket_encoder.h"
#include "tests/unit/proto/websocket_transcript.h"

namespace tunnel::proto {
namespace {

constexpr MaskKey kKey = {0x37, 0xFA, 0x21, 0x3D};
constexpr uint8_t kFin = 0x80;
constexpr uint8_t kText = 1;
constexpr uint8_t kBinary = 2;
constexpr uint8_t kClose = 8;
constexpr uint8_t kPing = 9;
constexpr uint8_t kPong = 10;

enum class Length { kShortest, k16, k64 };

// A frame written by hand, so that it can be wrong. The reader is `reader`, hence masked when that is a server, unless
// `flip_mask`.
std::string Frame(Role reader, uint8_t byte0, std::string_view payload, Length form = Length::kShortest,
                  bool flip_mask = false) {
  const bool masked = (reader == Role::kServer) != flip_mask;
  const size_t size = payload.size();
  if (form == Length::kShortest && size > 125) form = size > 0xFFFF ? Length::k64 : Length::k16;
  std::string frame(1, static_cast<char>(byte0));
  const uint8_t length = form == Length::k64 ? 127 : form == Length::k16 ? 126 : static_cast<uint8_t>(size);
  frame += static_cast<char>((masked ? 0x80 : 0) | length);
  const size_t length_bytes = form == Length::k64 ? 8 : form == Length::k16 ? 2 : 0;
  for (size_t i = 0; i < length_bytes; ++i) {
    frame += static_cast<char>(static_cast<uint64_t>(size) >> (8 * (length_bytes - 1 - i)));
  }
  if (masked) frame.append(reinterpret_cast<const char*>(kKey.data()), kKey.size());
  for (size_t i = 0; i < size; ++i) {
    frame += static_cast<char>(masked ? static_cast<uint8_t>(payload[i]) ^ kKey[i % 4] : payload[i]);
  }
  return frame;
}

std::string Code(uint16_t code, std::string_view reason = {}) {
  std::string payload = {static_cast<char>(code >> 8), static_cast<char>(code)};
  payload += reason;
  return payload;
}

// Runs `stream` whole, byte by byte, in other pieces, and with a further frame behind it.
void Expect(const std::string& stream, const WebSocketDecoder::Options& options, const std::string& line) {
  for (const size_t piece : {size_t{0}, size_t{1}, size_t{2}, size_t{3}, size_t{7}, size_t{64}}) {
    EXPECT_EQ(TranscriptOf(stream, options, piece), line) << "in pieces of " << piece;
  }
  if (line.find("partial") != std::string::npos) return;
  const bool ended = line.find("close") != std::string::npos || line.find("error") != std::string::npos;
  const std::string trailing = stream + Frame(options.role, kFin | kPing, "trail");
  for (const size_t piece : {size_t{0}, size_t{1}}) {
    EXPECT_EQ(TranscriptOf(trailing, options, piece), ended ? line : line + "ping(trail);") << "with trailing bytes";
  }
}

struct Row {
  const char* rule;
  std::string (*stream)(Role reader);
  std::string line;
};

class Rfc6455 : public testing::TestWithParam<Role> {
 protected:
  void Run(std::span<const Row> rows, WebSocketDecoder::Options options = {}) {
    options.role = GetParam();
    for (const Row& row : rows) {
      SCOPED_TRACE(row.rule);
      Expect(row.stream(GetParam()), options, row.line);
    }
  }
};
INSTANTIATE_TEST_SUITE_P(Roles, Rfc6455, testing::Values(Role::kClient, Role::kServer),
                         [](const auto& row) { return row.param == Role::kClient ? "Client" : "Server"; });

TEST_P(Rfc6455, MessagesAndFragments) {
  const Row rows[] = {
      {"5.6 text", [](Role r) { return Frame(r, kFin | kText, "Hello"); }, "T(Hello);"},
      {"5.6 binary", [](Role r) { return Frame(r, kFin | kBinary, "\x01\xFF"); }, "B(\x01\xFF);"},
      {"5.2 empty message", [](Role r) { return Frame(r, kFin | kBinary, ""); }, "B();"},
      {"5.4 fragments", [](Role r) { return Frame(r, kText, "Hel") + Frame(r, kFin, "lo"); }, "T(Hello);"},
      {"5.4 many fragments",
       [](Role r) { return Frame(r, kBinary, "a") + Frame(r, 0, "b") + Frame(r, 0, "c") + Frame(r, kFin, "d"); },
       "B(abcd);"},
      {"5.4 empty fragments",
       [](Role r) { return Frame(r, kBinary, "") + Frame(r, 0, "") + Frame(r, 0, "x") + Frame(r, kFin, ""); }, "B(x);"},
      {"5.4 control between fragments",
       [](Role r) {
         return Frame(r, kText, "a") + Frame(r, kFin | kPing, "p") + Frame(r, 0, "b") + Frame(r, kFin | kPong, "q") +
                Frame(r, kFin, "c");
       },
       "ping(p);pong(q);T(abc);"},
      {"5.4 messages in a row",
       [](Role r) { return Frame(r, kFin | kText, "1") + Frame(r, kFin | kBinary, "2") + Frame(r, kFin | kText, "3"); },
       "T(1);B(2);T(3);"},
      {"5.4 nothing yet", [](Role) { return std::string(); }, ""},
      {"5.4 fragment without end", [](Role r) { return Frame(r, kText, "Hel"); }, "partial T(Hel);"},
      {"5.4 frame cut short",
       [](Role r) { return Frame(r, kFin | kBinary, "Hello").substr(0, r == Role::kServer ? 8 : 4); },
       "partial B(He);"},
  };
  Run(rows);
}

TEST_P(Rfc6455, ControlFrames) {
  const Row rows[] = {
      {"5.5.2 ping", [](Role r) { return Frame(r, kFin | kPing, "Hello"); }, "ping(Hello);"},
      {"5.5.2 empty ping", [](Role r) { return Frame(r, kFin | kPing, ""); }, "ping();"},
      {"5.5.3 unsolicited pong", [](Role r) { return Frame(r, kFin | kPong, "x"); }, "pong(x);"},
      {"5.5 125 bytes", [](Role r) { return Frame(r, kFin | kPing, std::string(125, 'x')); },
       "ping(" + std::string(125, 'x') + ");"},
      {"5.5 126 bytes", [](Role r) { return Frame(r, kFin | kPing, std::string(126, 'x')); }, "error 1002;"},
      {"5.5 64-bit length", [](Role r) { return Frame(r, kFin | kPong, std::string(0x10000, 'x')); }, "error 1002;"},
      {"5.5 fragmented ping", [](Role r) { return Frame(r, kPing, "x"); }, "error 1002;"},
      {"5.5 fragmented pong", [](Role r) { return Frame(r, kPong, "x"); }, "error 1002;"},
      {"5.5 fragmented close", [](Role r) { return Frame(r, kClose, Code(1000)); }, "error 1002;"},
      {"5.5 control beside a bad message", [](Role r) { return Frame(r, kFin | kPing, "") + Frame(r, kFin, "x"); },
       "ping();error 1002;"},
  };
  Run(rows);
}

TEST_P(Rfc6455, FramingErrors) {
  const Row rows[] = {
      {"5.2 RSV1", [](Role r) { return Frame(r, kFin | 0x40 | kText, "x"); }, "error 1002;"},
      {"5.2 RSV2", [](Role r) { return Frame(r, kFin | 0x20 | kText, "x"); }, "error 1002;"},
      {"5.2 RSV3", [](Role r) { return Frame(r, kFin | 0x10 | kText, "x"); }, "error 1002;"},
      {"5.2 RSV1 on control", [](Role r) { return Frame(r, kFin | 0x40 | kPing, "x"); }, "error 1002;"},
      {"5.2 RSV1 on continuation", [](Role r) { return Frame(r, kText, "x") + Frame(r, kFin | 0x40, "y"); },
       "error 1002;"},
      {"5.1 wrong mask bit", [](Role r) { return Frame(r, kFin | kText, "x", Length::kShortest, true); },
       "error 1002;"},
      {"5.1 wrong mask bit on control", [](Role r) { return Frame(r, kFin | kPing, "", Length::kShortest, true); },
       "error 1002;"},
      {"5.1 wrong mask bit later",
       [](Role r) { return Frame(r, kFin | kText, "x") + Frame(r, kFin | kText, "y", Length::kShortest, true); },
       "T(x);error 1002;"},
      {"5.2 16-bit length for 125", [](Role r) { return Frame(r, kFin | kBinary, std::string(125, 'x'), Length::k16); },
       "error 1002;"},
      {"5.2 16-bit length for 0", [](Role r) { return Frame(r, kFin | kBinary, "", Length::k16); }, "error 1002;"},
      {"5.2 64-bit length for 65535",
       [](Role r) { return Frame(r, kFin | kBinary, std::string(0xFFFF, 'x'), Length::k64); }, "error 1002;"},
      {"5.2 64-bit length for 5", [](Role r) { return Frame(r, kFin | kBinary, "Hello", Length::k64); }, "error 1002;"},
      {"5.2 top bit of a 64-bit length",
       [](Role r) {
         const char byte1 = static_cast<char>(r == Role::kServer ? 0xFF : 0x7F);
         return std::string("\x82") + byte1 + "\x80" + std::string(7, '\0') + std::string(4, 'k') + "data";
       },
       "error 1002;"},
      {"5.4 continuation of nothing", [](Role r) { return Frame(r, kFin, "x"); }, "error 1002;"},
      {"5.4 unfinished continuation of nothing", [](Role r) { return Frame(r, 0, "x"); }, "error 1002;"},
      {"5.4 continuation after the end", [](Role r) { return Frame(r, kFin | kText, "x") + Frame(r, kFin, "y"); },
       "T(x);error 1002;"},
      {"5.4 text inside a message", [](Role r) { return Frame(r, kText, "x") + Frame(r, kFin | kText, "y"); },
       "error 1002;"},
      {"5.4 binary inside a message", [](Role r) { return Frame(r, kText, "x") + Frame(r, kBinary, "y"); },
       "error 1002;"},
  };
  Run(rows);
}

TEST_P(Rfc6455, ReservedOpcodes) {
  for (const int reserved : {3, 4, 5, 6, 7, 11, 12, 13, 14, 15}) {
    const auto opcode = static_cast<uint8_t>(reserved);
    SCOPED_TRACE(+opcode);
    Expect(Frame(GetParam(), static_cast<uint8_t>(kFin | opcode), "x"), {.role = GetParam()}, "error 1002;");
    Expect(Frame(GetParam(), kText, "x") + Frame(GetParam(), opcode, ""), {.role = GetParam()}, "error 1002;");
  }
}

TEST_P(Rfc6455, LengthForms) {
  for (const size_t size : {0U, 1U, 125U, 126U, 127U, 128U, 0xFFFFU, 0x10000U, 0x10001U}) {
    SCOPED_TRACE(size);
    std::string payload(size, '\0');
    for (size_t i = 0; i < size; ++i) payload[i] = static_cast<char>('a' + i % 26);
    Expect(Frame(GetParam(), kFin | kBinary, payload), {.role = GetParam()}, "B(" + payload + ");");
  }
}

TEST_P(Rfc6455, CloseFrames) {
  const Row rows[] = {
      {"5.5.1 no code", [](Role r) { return Frame(r, kFin | kClose, ""); }, "close 1005();"},
      {"5.5.1 code", [](Role r) { return Frame(r, kFin | kClose, Code(1000)); }, "close 1000();"},
      {"5.5.1 code and reason", [](Role r) { return Frame(r, kFin | kClose, Code(1001, "bye")); }, "close 1001(bye);"},
      {"5.5.1 longest reason", [](Role r) { return Frame(r, kFin | kClose, Code(3000, std::string(123, 'r'))); },
       "close 3000(" + std::string(123, 'r') + ");"},
      {"5.5.1 half a code", [](Role r) { return Frame(r, kFin | kClose, "\x03"); }, "error 1002;"},
      {"5.5.1 reason not UTF-8", [](Role r) { return Frame(r, kFin | kClose, Code(1000, "\xFF")); }, "error 1007;"},
      {"5.5.1 reason cut in a character", [](Role r) { return Frame(r, kFin | kClose, Code(1000, "\xE2\x82")); },
       "error 1007;"},
      {"5.5.1 too long", [](Role r) { return Frame(r, kFin | kClose, Code(1000, std::string(124, 'r'))); },
       "error 1002;"},
      {"1.4 nothing after close",
       [](Role r) { return Frame(r, kFin | kClose, Code(1000)) + Frame(r, kFin | kText, "x") + "\xFF\xFF\xFF"; },
       "close 1000();"},
      {"5.4 close inside a message", [](Role r) { return Frame(r, kText, "x") + Frame(r, kFin | kClose, Code(1000)); },
       "close 1000();"},
  };
  Run(rows);
}

TEST_P(Rfc6455, EveryCloseCode) {
  const auto allowed = [](unsigned code) {
    switch (code) {
      case 1000:
      case 1001:
      case 1002:
      case 1003:
      case 1007:
      case 1008:
      case 1009:
      case 1010:
      case 1011:
      case 1012:
      case 1013:
      case 1014:
        return true;
      default:
        return code >= 3000 && code < 5000;
    }
  };
  for (unsigned code = 0; code <= 0xFFFF; ++code) {
    std::string stream = Frame(GetParam(), kFin | kClose, Code(static_cast<uint16_t>(code)));
    WebSocketTranscript transcript({.role = GetParam()});
    transcript.Feed({reinterpret_cast<uint8_t*>(stream.data()), stream.size()});
    ASSERT_EQ(transcript.Line(), allowed(code) ? fmt::format("close {}();", code) : "error 1002;");
  }
}

TEST_P(Rfc6455, Utf8OfText) {
  const Row rows[] = {
      {"8.1 valid", [](Role r) { return Frame(r, kFin | kText, "\xCE\xBA\xE2\x82\xAC"); }, "T(\xCE\xBA\xE2\x82\xAC);"},
      {"5.6 character across fragments",
       [](Role r) { return Frame(r, kText, "\xE2") + Frame(r, 0, "\x82") + Frame(r, kFin, "\xAC"); },
       "T(\xE2\x82\xAC);"},
      {"5.6 across fragments and a control frame",
       [](Role r) { return Frame(r, kText, "\xE2\x82") + Frame(r, kFin | kPing, "\xFF") + Frame(r, kFin, "\xAC"); },
       "ping(\xFF);T(\xE2\x82\xAC);"},
      {"8.1 invalid byte", [](Role r) { return Frame(r, kFin | kText, "ab\xFF"); }, "error 1007;"},
      {"8.1 overlong", [](Role r) { return Frame(r, kFin | kText, "\xC0\xAF"); }, "error 1007;"},
      {"8.1 surrogate", [](Role r) { return Frame(r, kFin | kText, "\xED\xA0\x80"); }, "error 1007;"},
      {"8.1 above U+10FFFF", [](Role r) { return Frame(r, kFin | kText, "\xF4\x90\x80\x80"); }, "error 1007;"},
      {"8.1 ends within a character", [](Role r) { return Frame(r, kFin | kText, "a\xE2\x82"); }, "error 1007;"},
      {"8.1 ends within a character, empty last fragment",
       [](Role r) { return Frame(r, kText, "a\xE2\x82") + Frame(r, kFin, ""); }, "error 1007;"},
      {"8.1 early, before the frame is complete",
       [](Role r) { return Frame(r, kText, "\xE2\x28" + std::string(100, 'x')).substr(0, 20); }, "error 1007;"},
      {"8.1 state does not leak into the next message",
       [](Role r) { return Frame(r, kFin | kText, "\xC3\xA9") + Frame(r, kFin | kText, "\xA9"); },
       "T(\xC3\xA9);error 1007;"},
      {"8.1 binary is not checked", [](Role r) { return Frame(r, kFin | kBinary, "\xFF\xC0"); }, "B(\xFF\xC0);"},
  };
  Run(rows);
}

// Section 5.6: a text may be cut into fragments anywhere, also within a character, and control frames may come there.
TEST_P(Rfc6455, Utf8CutAtEveryByte) {
  const std::string text = "k\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80.";
  for (size_t first = 0; first <= text.size(); ++first) {
    for (size_t second = first; second <= text.size(); ++second) {
      SCOPED_TRACE(fmt::format("cut at {} and {}", first, second));
      const std::string stream =
          Frame(GetParam(), kText, text.substr(0, first)) + Frame(GetParam(), kFin | kPing, "\xF0\x9F") +
          Frame(GetParam(), 0, text.substr(first, second - first)) + Frame(GetParam(), kFin, text.substr(second));
      Expect(stream, {.role = GetParam()}, "ping(\xF0\x9F);T(" + text + ");");
    }
  }
  // The same cuts of a text that ends within its last character.
  const std::string cut = "a\xF0\x9F\x98";
  for (size_t at = 0; at <= cut.size(); ++at) {
    Expect(Frame(GetParam(), kText, cut.substr(0, at)) + Frame(GetParam(), kFin, cut.substr(at)), {.role = GetParam()},
           "error 1007;");
  }
}

TEST_P(Rfc6455, LegacyPeersSendBytesAsText) {
  const Row rows[] = {
      {"raw bytes", [](Role r) { return Frame(r, kFin | kText, "\xFF\xC0\x80"); }, "T(\xFF\xC0\x80);"},
      {"cut character", [](Role r) { return Frame(r, kText, "\xE2") + Frame(r, kFin, ""); }, "T(\xE2);"},
      {"close reasons are checked all the same", [](Role r) { return Frame(r, kFin | kClose, Code(1000, "\xFF")); },
       "error 1007;"},
  };
  Run(rows, {.check_utf8 = false});
}

TEST_P(Rfc6455, MessageLimit) {
  const Row rows[] = {
      {"at the limit", [](Role r) { return Frame(r, kFin | kBinary, "0123456789"); }, "B(0123456789);"},
      {"over", [](Role r) { return Frame(r, kFin | kBinary, "0123456789a"); }, "error 1009;"},
      {"fragments at the limit", [](Role r) { return Frame(r, kBinary, "01234") + Frame(r, kFin, "56789"); },
       "B(0123456789);"},
      {"fragments over", [](Role r) { return Frame(r, kBinary, "01234") + Frame(r, kFin, "56789a"); }, "error 1009;"},
      {"each message counts alone",
       [](Role r) { return Frame(r, kFin | kBinary, "0123456789") + Frame(r, kFin | kBinary, "0123456789"); },
       "B(0123456789);B(0123456789);"},
      {"control frames do not count",
       [](Role r) {
         return Frame(r, kBinary, "0123456789") + Frame(r, kFin | kPing, "0123456789a") + Frame(r, kFin, "");
       },
       "ping(0123456789a);B(0123456789);"},
      {"announced, not sent",
       [](Role r) {
         const char byte1 = static_cast<char>(r == Role::kServer ? 0xFF : 0x7F);
         return std::string("\x82") + byte1 + "\x7F" + std::string(7, '\xFF') + std::string(4, 'k');
       },
       "error 1009;"},
      {"largest length after a fragment",
       [](Role r) {
         const char byte1 = static_cast<char>(r == Role::kServer ? 0xFF : 0x7F);
         return Frame(r, kBinary, "x") + std::string("\x80") + byte1 + "\x7F" + std::string(7, '\xFF') +
                std::string(4, 'k');
       },
       "error 1009;"},
  };
  Run(rows, {.max_message_bytes = 10});
}

// Payloads are handed out where they lie, and a pause between two calls of Next() loses nothing.
TEST(WebSocketDecoder, PayloadsAreInPlace) {
  std::string stream = Frame(Role::kServer, kFin | kBinary, "abcdef") + Frame(Role::kServer, kFin | kPing, "ping");
  const std::span<uint8_t> bytes(reinterpret_cast<uint8_t*>(stream.data()), stream.size());
  WebSocketDecoder decoder({.role = Role::kServer});
  using Kind = WebSocketDecoder::EventKind;
  decoder.Feed(bytes);
  EXPECT_EQ(decoder.Next().kind, Kind::kMessageBegin);
  const auto data = decoder.Next();
  EXPECT_EQ(data.kind, Kind::kMessageData);
  EXPECT_EQ(data.payload.data(), bytes.data() + 6);
  EXPECT_EQ(decoder.Next().kind, Kind::kMessageEnd);
  const auto ping = decoder.Next();
  EXPECT_EQ(ping.kind, Kind::kPing);
  EXPECT_EQ(ping.payload.data(), bytes.data() + 12 + 6);
  EXPECT_EQ(AsString(ping.payload), "ping");
  EXPECT_EQ(AsString(data.payload), "abcdef");
  EXPECT_EQ(decoder.Next().kind, Kind::kNeedMore);
  EXPECT_EQ(decoder.Next().kind, Kind::kNeedMore);
}

TEST(WebSocketDecoder, ExamplesOfRfc6455Section57) {
  const auto bytes = [](std::initializer_list<int> list) { return std::string(list.begin(), list.end()); };
  const WebSocketDecoder::Options client = {.role = Role::kClient};
  const WebSocketDecoder::Options server = {.role = Role::kServer};
  Expect(bytes({0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f}), client, "T(Hello);");
  Expect(bytes({0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58}), server, "T(Hello);");
  Expect(bytes({0x01, 0x03, 0x48, 0x65, 0x6c, 0x80, 0x02, 0x6c, 0x6f}), client, "T(Hello);");
  Expect(bytes({0x89, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f}), client, "ping(Hello);");
  Expect(bytes({0x8a, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58}), server, "pong(Hello);");
}

}  // namespace
}  // namespace tunnel::proto
