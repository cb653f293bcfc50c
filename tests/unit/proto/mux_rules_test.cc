// Every rule of docs/wire-native.md that a frame can break by itself, and what is ignored instead.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "tests/unit/proto/mux_reading.h"

namespace tunnel::proto {
namespace {

constexpr Role kServer = Role::kServer;
constexpr Role kClient = Role::kClient;

using std::string_literals::operator""s;

const std::string kUnixHex = "03 0b 756e69783a2f72756e2f73 0000";  // unix:/run/s

TEST(MuxRules, RefusesWhatBreaksARule) {
  struct Broken {
    Role reader;
    std::string message;
    std::string reason;
  };
  const std::string open = "0100 0000 00000001 01 00000000 0000000000000000 ";
  const std::string opened = "0200 0000 00000001 00 0000000000000000 ";
  const std::string v4 = "01 c0000201 0050";
  const std::string flag = "a flag that its type does not have";
  const std::string no_stream = "stream id 0 in a frame of a stream";
  const std::string not_channel = "a stream id in a frame of the channel";
  const std::string wrong_side = "a stream id of the wrong side";
  const std::string not_theirs = "a frame that is not this side's to send";
  const std::string address = "an address that cannot be";
  std::vector<Broken> rows = {
      {kServer, "", "shorter than a header"},
      {kServer, FromHex("03 01 0000 000000"), "shorter than a header"},
      {kServer, FromHex("0300 0100 00000001 61"), "the reserved bytes are not zero"},
      {kServer, FromHex("0300 0001 00000001 61"), "the reserved bytes are not zero"},
      {kServer, FromHex("0c00 0001 00000000"), "the reserved bytes are not zero"},
      {kServer, FromHex("ff00 8000 00000000"), "the reserved bytes are not zero"},
      {kServer, FromHex("0000 0000 00000001"), "unknown type of frame"},
      {kServer, FromHex("0d00 0000 00000001"), "unknown type of frame"},
      {kServer, FromHex("7f00 0000 00000001"), "unknown type of frame"},
      {kServer, FromHex("0300 0000 00000001"), "DATA without bytes or FIN"},
      // Parity and direction.
      {kServer, FromHex("0100 0000 00000002 01 00000000 0000000000000000 " + v4), wrong_side},
      {kClient, FromHex(open + v4), wrong_side},
      {kServer, FromHex(opened + v4), wrong_side},
      {kClient, FromHex("0200 0000 00000002 00 0000000000000000 " + v4), wrong_side},
      {kClient, FromHex("0900 0000 00000001 00000001 0000000000000000 0000000000000000"), not_theirs},
      {kServer, FromHex("0a00 0000 00000001 00000001 0000000000000000 0000000000000000"), not_theirs},
      {kClient, FromHex("0100 0000 00000002 03 00000000 0000000000000000 " + v4), "a server asks for a listener"},
      {kClient, FromHex("0100 0000 00000002 01 00000001 0000000000000000 " + v4), "a generation from a server"},
      // OPEN.
      {kServer, FromHex("0100 0000 00000001 00 00000000 0000000000000000 " + v4), "unknown kind of stream"},
      {kServer, FromHex("0100 0000 00000001 04 00000000 0000000000000000 " + v4), "unknown kind of stream"},
      {kServer, FromHex("0100 0000 00000001 01 00000000 8000000000000000 " + v4), "limit out of range"},
      {kServer, FromHex("0100 0000 00000001 01 00000000 ffffffffffffffff " + v4), "limit out of range"},
      {kServer, FromHex(open + "00 c0000201 0050"), "unknown type of address"},
      {kServer, FromHex(open + "02 c0000201 0050"), "unknown type of address"},
      {kServer, FromHex(open + "05 c0000201 0050"), "unknown type of address"},
      {kServer, FromHex(open + "01 c0000201 0000"), address},
      {kServer, FromHex(open + "03 01 61 0000"), address},
      {kServer, FromHex(open + "03 00 0050"), address},
      {kServer, FromHex(open + "03 03 612062 0050"), address},
      {kServer, FromHex(open + "03 03 610062 0050"), address},
      {kServer, FromHex(open + "03 02 c3a9 0050"), address},
      {kServer, FromHex(open + "03 05 3132372e31 0050"), address},              // 127.1
      {kServer, FromHex(open + "03 0b 756e69783a2f72756e2f73 0050"), address},  // unix:/run/s with a port
      {kServer, FromHex(open + "03 05 756e69783a 0000"), address},              // unix:
      {kServer, FromHex(open + "03 09 3132372e302e302e31 0050"), "an IP address as a name"},
      {kServer, FromHex(open + "03 03 3a3a31 0050"), "an IP address as a name"},
      {kServer, FromHex("0100 0000 00000001 02 00000000 0000000000000000 " + kUnixHex), address},
      // OPENED.
      {kClient, FromHex("0200 0000 00000001 00 8000000000000000 " + v4), "limit out of range"},
      {kClient, FromHex(opened + "07 c0000201 0050"), "unknown type of address"},
      {kClient, FromHex(opened + "03 03 612062 0050"), address},
      {kClient, FromHex(opened + "03 09 3132372e302e302e31 0050"), "an IP address as a name"},
      {kClient, FromHex(opened + v4 + "00"), "payload too long for its type"},
      {kClient, FromHex(opened + "03 03 6162 0050"), "payload too short for its type"},
      // CREDIT, RESUME, RESUMED.
      {kServer, FromHex("0400 0000 00000001 0000000000000001 0000000000000000"),
       "more bytes taken than the limit allows"},
      {kServer, FromHex("0400 0000 00000001 0000000000000000 8000000000000000"), "limit out of range"},
      {kServer, FromHex("0400 0000 00000001 ffffffffffffffff 0000000000000000"),
       "more bytes taken than the limit allows"},
      {kServer, FromHex("0400 0000 00000001 0000000000000000 0000000000000000 00"), "payload too long for its type"},
      {kServer, FromHex("0900 0000 00000001 00000001 0000000000000009 0000000000000008"),
       "more bytes taken than the limit allows"},
      {kClient, FromHex("0a00 0000 00000001 00000001 0000000000000000 8000000000000000"), "limit out of range"},
      // RESET and GOAWAY.
      {kServer, FromHex("0500 0000 00000001 00000000 ff"), "a reason that is not UTF-8"},
      {kServer, FromHex("0500 0000 00000001 00000000 61c3"), "a reason that is not UTF-8"},
      {kServer, FromHex("0b00 0000 00000000 00000000 eda080"), "a reason that is not UTF-8"},
      {kServer, FromHex("0500 0000 00000001 00000000") + std::string(257, 'r'), "payload too long for its type"},
      {kServer, FromHex("0b00 0000 00000000 00000000") + std::string(257, 'r'), "payload too long for its type"},
      // DATAGRAM.
      {kServer, FromHex("0600 0000 00000001 01 c0000201 0000"), address},
      {kServer, FromHex("0600 0000 00000001 " + kUnixHex), address},
      {kServer, FromHex("0600 0000 00000001 03 01 20 0050"), address},
      {kServer, FromHex("0600 0000 00000001 03 09 3132372e302e302e31 0050"), "an IP address as a name"},
      {kServer, FromHex("0600 0000 00000001 06 01 20 0050"), "unknown type of address"},
      // PING and PONG.
      {kServer, FromHex("0700 0000 00000000 01020304050607"), "payload too short for its type"},
      {kServer, FromHex("0700 0000 00000000 " + Repeat("00", 65)), "payload too long for its type"},
      {kClient, FromHex("0800 0000 00000000"), "payload too short for its type"},
      {kClient, FromHex("0800 0000 00000000 " + Repeat("00", 65)), "payload too long for its type"},
  };
  for (const char* type : {"01", "02", "03", "04", "05", "06", "09", "0a"}) {
    const Role reader = type == "0a"s ? kClient : kServer;
    rows.push_back({reader, FromHex(type + "00 0000 00000000 00"s), no_stream});
  }
  for (const char* type : {"07", "08", "0b", "0c"}) {
    rows.push_back({kServer, FromHex(type + "00 0000 00000001 0102030405060708"s), not_channel});
  }
  for (int type = 1; type <= 12; ++type) {
    const bool has_fin = type == 3 || type == 4 || type == 9 || type == 10;
    const Role reader = type == 10 ? kClient : kServer;
    for (const int flags : {1, 2, 4, 8, 16, 32, 64, 128, 255}) {
      if (flags == 1 && has_fin) continue;
      rows.push_back({reader, FromHex(fmt::format("{:02x}{:02x} 0000 00000001", type, flags)), flag});
    }
  }
  for (const Broken& row : rows) {
    SCOPED_TRACE(row.reason + ": " + testing::PrintToString(row.message));
    const std::string told = ReadMuxAll(row.reader, row.message);
    EXPECT_EQ(told.substr(std::min(told.find("error: "), told.size())), "error: " + row.reason);
  }
}

TEST(MuxRules, RefusesTextMessages) {
  for (const std::string& message : {""s, "TCP:x"s, FromHex("0301 0000 00000001")}) {
    EXPECT_EQ(ReadMuxAll(kServer, Opcode::kText, message), "nothing error: a text message");
  }
}

TEST(MuxRules, AnErrorIsFinal) {
  MuxDecoder decoder(kServer);
  EXPECT_EQ(ReadMux(decoder, Opcode::kText, "x", 0).error, "a text message");
  for (const size_t piece : {size_t{0}, size_t{1}}) {
    EXPECT_EQ(DescribeMux(ReadMux(decoder, Opcode::kBinary, FromHex("0301 0000 00000001"), piece)),
              "nothing error: a text message");
  }
  EXPECT_TRUE(decoder.failed());
}

TEST(MuxRules, ThePayloadHasABound) {
  const std::string data = FromHex("0300 0000 00000001");
  const std::string open = FromHex("0100 0000 00000001 01 00000000 0000000000000000 01 c0000201 0050");
  const std::string datagram = FromHex("0600 0000 00000001 01 c0000201 0050");
  struct Case {
    std::string head;
    std::string described;
    bool ignored = false;
  };
  for (const Case& one : std::vector<Case>{
           {data, "DATA stream=1"},
           {open, "OPEN stream=1 kind=tcp generation=0 limit=0 address=192.0.2.1:80"},
           {datagram, "DATAGRAM stream=1 address=192.0.2.1:80"},
           {FromHex("0c00 0000 00000000"), "nothing", true},
           {FromHex("8000 0000 00000000"), "nothing", true},
       }) {
    const std::string bulk(kMuxMaxMessageBytes - one.head.size(), 'b');
    const std::string payload = one.ignored ? "" : fmt::format(" payload={}:{}", bulk.size(), bulk);
    EXPECT_EQ(ReadMuxAll(kServer, one.head + bulk), one.described + payload + (one.ignored ? "" : " end"));
    // What fits was handed out, however it came.
    EXPECT_EQ(ReadMuxAll(kServer, one.head + bulk + "x"), one.described + payload + " error: a payload over 64 KiB");
    EXPECT_EQ(ReadMuxAll(kServer, one.head + bulk + std::string(100000, 'x')),
              one.described + payload + " error: a payload over 64 KiB");
  }
}

TEST(MuxRules, IgnoresPaddingAndTypesToCome) {
  for (const Role reader : {kServer, kClient}) {
    EXPECT_EQ(ReadMuxAll(reader, FromHex("0c00 0000 00000000")), "nothing");
    EXPECT_EQ(ReadMuxAll(reader, FromHex("0c00 0000 00000000") + std::string(1000, '\0')), "nothing");
    EXPECT_EQ(ReadMuxAll(reader, FromHex("0c00 0000 00000000") + std::string(kMuxMaxPayloadBytes, 'p')), "nothing");
    for (const std::string type : {"80", "81", "c0", "ff"}) {
      EXPECT_EQ(ReadMuxAll(reader, FromHex(type + "00 0000 00000000")), "nothing");
      EXPECT_EQ(ReadMuxAll(reader, FromHex(type + "ff 0000 ffffffff 01020304")), "nothing");
    }
  }
  EXPECT_EQ(WriteMux(kServer, {.type = MuxType::kPad}), FromHex("0c00 0000 00000000"));
}

}  // namespace
}  // namespace tunnel::proto
