#include "proto/legacy.h"

#include <absl/container/flat_hash_set.h>
#include <gtest/gtest.h>

#include <string>

#include "tests/unit/proto/legacy_transcript.h"

namespace tunnel::proto {
namespace {

const std::string kId = "0123abcd-4567-4890-abcd-ef0123456789";

// Reads whole, byte by byte and in other pieces; all must agree.
LegacyResult Read(Role role, Opcode opcode, const std::string& message) {
  LegacyDecoder decoder(role);
  const LegacyResult whole = ReadLegacy(decoder, opcode, message, 0);
  for (const size_t piece : {size_t{1}, size_t{2}, size_t{5}, size_t{41}, size_t{42}}) {
    EXPECT_EQ(ReadLegacy(decoder, opcode, message, piece), whole) << "in pieces of " << piece;
  }
  return whole;
}

struct Row {
  Role reader;
  Opcode opcode;
  std::string message;
  LegacyHead head;  // without id
  std::string payload;
};

constexpr Role kServer = Role::kServer;
constexpr Role kClient = Role::kClient;
constexpr Opcode kText = Opcode::kText;
constexpr Opcode kBinary = Opcode::kBinary;

const std::string kLongHost(255, 'h');
const std::string kLongText(kMaxLegacyTextBytes, 'e');

// Every message of the table, whose encoding is exactly what is read.
std::vector<Row> Rows() {
  using T = LegacyType;
  return {
      {kServer, kText, "CLAIM:" + kId + "|0", {.type = T::kClaim, .channel = 0}, ""},
      {kServer, kText, "CLAIM:" + kId + "|4294967295", {.type = T::kClaim, .channel = 4294967295}, ""},
      {kClient, kText, "CLAIM_ACK:" + kId + "|17", {.type = T::kClaimAck, .channel = 17}, ""},
      {kServer, kText, "TCP:" + kId + "|example.com:443|", {.type = T::kTcp, .host = "example.com", .port = 443}, ""},
      {kServer,
       kText,
       "TCP:" + kId + "|[2001:db8::1]:80|GET /|x|",
       {.type = T::kTcp, .host = "2001:db8::1", .port = 80},
       "GET /|x|"},
      {kServer,
       kText,
       "TCP:" + kId + "|192.0.2.1:65535|\xFF\xFE",
       {.type = T::kTcp, .host = "192.0.2.1", .port = 65535},
       "\xFF\xFE"},
      {kServer, kText, "TCP:" + kId + "|" + kLongHost + ":1|x", {.type = T::kTcp, .host = kLongHost, .port = 1}, "x"},
      {kServer,
       kText,
       "TCP:" + kId + "|[fe80::1%eth0]:22||",
       {.type = T::kTcp, .host = "fe80::1%eth0", .port = 22},
       "|"},
      {kServer, kText, "TCP:" + kId + "|unix:/run/a.sock|x|", {.type = T::kTcp, .host = "unix:/run/a.sock"}, "x|"},
      {kClient, kText, "CONNECTED:" + kId, {.type = T::kConnected}, ""},
      {kServer, kText, "DATA:" + kId + "|a|b:c", {.type = T::kData}, "a|b:c"},
      {kServer, kBinary, "DATA:" + kId + "|\xFF", {.type = T::kData}, "\xFF"},
      {kClient, kBinary, "DATA:" + kId + "|", {.type = T::kData}, ""},
      {kClient, kBinary, "DATA:" + kId + "|" + std::string(3000, 'd'), {.type = T::kData}, std::string(3000, 'd')},
      {kServer, kText, "CLOSE:" + kId, {.type = T::kClose}, ""},
      {kClient, kText, "CLOSE:" + kId, {.type = T::kClose}, ""},
      {kClient, kText, "ERROR:", {.type = T::kError}, ""},
      {kClient, kText, "ERROR:dial: no route|x", {.type = T::kError, .text = "dial: no route|x"}, ""},
      {kClient, kText, "ERROR:" + kLongText, {.type = T::kError, .text = kLongText}, ""},
      {kServer,
       kText,
       "UDP_CONNECT:" + kId + "|dns.test:53",
       {.type = T::kUdpConnect, .host = "dns.test", .port = 53},
       ""},
      {kServer, kText, "UDP_CONNECT:" + kId + "|[::1]:53", {.type = T::kUdpConnect, .host = "::1", .port = 53}, ""},
      {kClient, kText, "UDP_CONNECTED:" + kId, {.type = T::kUdpConnected}, ""},
      {kClient, kText, "UDP_ERROR:" + kId + "|refused|", {.type = T::kUdpError, .text = "refused|"}, ""},
      {kClient, kText, "UDP_ERROR:" + kId + "|", {.type = T::kUdpError}, ""},
      {kServer, kBinary, "UDP_DATA:" + kId + "|query", {.type = T::kUdpData}, "query"},
      {kServer, kBinary, "UDP_DATA:" + kId + "|", {.type = T::kUdpData}, ""},
      {kClient,
       kBinary,
       "UDP_DATA:" + kId + "|192.0.2.1:53|a|b",
       {.type = T::kUdpData, .host = "192.0.2.1", .port = 53},
       "a|b"},
      {kClient,
       kBinary,
       "UDP_DATA:" + kId + "|2001:db8::1:53|x",
       {.type = T::kUdpData, .host = "2001:db8::1", .port = 53},
       "x"},
      {kServer, kText, "UDP_CLOSE:" + kId, {.type = T::kUdpClose}, ""},
  };
}

TEST(Legacy, EveryMessageIsReadAndWritten) {
  for (const Row& row : Rows()) {
    SCOPED_TRACE(row.message);
    const LegacyResult result = Read(row.reader, row.opcode, row.message);
    ASSERT_FALSE(result.malformed);
    EXPECT_EQ(result.head.type, row.head.type);
    EXPECT_EQ(result.head.id, row.head.type == LegacyType::kError ? ConnectionId() : *ConnectionId::Parse(kId));
    EXPECT_EQ(result.head.channel, row.head.channel);
    EXPECT_EQ(result.host, row.head.host);
    EXPECT_EQ(result.head.port, row.head.port);
    EXPECT_EQ(result.text, row.head.text);
    EXPECT_EQ(result.payload, row.payload);

    LegacyHead head = row.head;
    head.id = *ConnectionId::Parse(kId);
    GuardedInput guarded;
    const auto out = guarded.Place(std::string(kMaxLegacyHeadBytes, '?'));
    const auto size = EncodeLegacyHead(out, PeerOf(row.reader), head);
    ASSERT_TRUE(size.has_value());
    EXPECT_EQ(AsString(out.first(*size)) + row.payload, row.message);
  }
}

// All but the original client's DATA is sent in the frame the table has it in.
TEST(Legacy, OpcodesAreTheTables) {
  for (const Row& row : Rows()) {
    if (row.head.type == LegacyType::kData && row.opcode == kText) continue;
    EXPECT_EQ(LegacyOpcodeOf(row.head.type), row.opcode) << row.message;
  }
}

TEST(Legacy, EveryMessageCutShortIsMalformedOrShorter) {
  for (const Row& row : Rows()) {
    LegacyDecoder decoder(row.reader);
    for (size_t size = 0; size < std::min<size_t>(row.message.size(), 330); ++size) {
      const std::string cut = row.message.substr(0, size);
      const LegacyResult whole = ReadLegacy(decoder, row.opcode, cut, 0);
      EXPECT_EQ(whole, ReadLegacy(decoder, row.opcode, cut, 1)) << cut;
      EXPECT_TRUE(whole.malformed || whole.head.type == row.head.type) << cut;
    }
  }
}

TEST(Legacy, MalformedWithAnIdThatWaitsForAnAnswer) {
  for (const auto& [message, type] :
       {std::pair{"TCP:" + kId + "|:80|x", LegacyType::kTcp}, std::pair{"TCP:" + kId + "|h:0|", LegacyType::kTcp},
        std::pair{"UDP_CONNECT:" + kId + "|h", LegacyType::kUdpConnect}}) {
    const LegacyResult result = Read(kServer, kText, message);
    EXPECT_TRUE(result.malformed && result.id_known) << message;
    EXPECT_EQ(result.head.type, type);
    EXPECT_EQ(std::string(result.head.id.text.begin(), result.head.id.text.end()), kId);
  }
  EXPECT_FALSE(Read(kServer, kText, "TCP:" + kId + "0|h:1|").id_known);
  EXPECT_FALSE(Read(kServer, kText, "TCP:" + kId).id_known);
}

TEST(Legacy, Malformed) {
  const std::string short_id = kId.substr(1);
  const struct {
    Role reader;
    Opcode opcode;
    std::string message;
  } rows[] = {
      {kServer, kText, ""},
      {kServer, kText, ":"},
      {kServer, kText, "DATA"},
      {kServer, kBinary, "DATA:"},
      {kServer, kText, "data:" + kId + "|x"},
      {kServer, kText, " DATA:" + kId + "|x"},
      {kServer, kText, "HELLO:" + kId},
      {kServer, kText, std::string(70000, 'x')},
      {kServer, kText, std::string(14, 'x') + ":"},
      // Messages of the other direction.
      {kServer, kText, "CLAIM_ACK:" + kId + "|1"},
      {kServer, kText, "CONNECTED:" + kId},
      {kServer, kText, "ERROR:x"},
      {kServer, kText, "UDP_CONNECTED:" + kId},
      {kServer, kText, "UDP_ERROR:" + kId + "|x"},
      {kClient, kText, "CLAIM:" + kId + "|1"},
      {kClient, kText, "TCP:" + kId + "|h:1|"},
      {kClient, kText, "UDP_CONNECT:" + kId + "|h:1"},
      {kClient, kText, "UDP_CLOSE:" + kId},
      // The wrong kind of frame.
      {kClient, kText, "DATA:" + kId + "|x"},
      {kServer, kBinary, "CLOSE:" + kId},
      {kServer, kBinary, "TCP:" + kId + "|h:1|"},
      {kServer, kText, "UDP_DATA:" + kId + "|x"},
      {kClient, kText, "UDP_DATA:" + kId + "|h:1|x"},
      {kClient, kBinary, "ERROR:x"},
      // The id.
      {kServer, kText, "CLOSE:"},
      {kServer, kText, "CLOSE:" + short_id},
      {kServer, kText, "CLOSE:" + kId + "0"},
      {kServer, kText, "CLOSE:" + kId + "|"},
      {kServer, kText, "DATA:" + short_id + "|payload"},
      {kServer, kText, "DATA:" + kId},
      {kServer, kText, "DATA:" + kId + "0|payload"},
      {kServer, kText, "DATA:" + short_id + " |payload"},
      {kServer, kText, "DATA:" + short_id + "\x7F|payload"},
      {kServer, kText, "DATA:" + short_id + "\xC3|payload"},
      {kServer, kText, "DATA:" + short_id + std::string(1, '\0') + "|payload"},
      // The channel.
      {kServer, kText, "CLAIM:" + kId},
      {kServer, kText, "CLAIM:" + kId + "|"},
      {kServer, kText, "CLAIM:" + kId + "|-1"},
      {kServer, kText, "CLAIM:" + kId + "|+1"},
      {kServer, kText, "CLAIM:" + kId + "|01"},
      {kServer, kText, "CLAIM:" + kId + "|1x"},
      {kServer, kText, "CLAIM:" + kId + "|1|"},
      {kServer, kText, "CLAIM:" + kId + "|4294967296"},
      {kServer, kText, "CLAIM:" + kId + "|99999999999"},
      // The target.
      {kServer, kText, "TCP:" + kId + "|h:1"},
      {kServer, kText, "TCP:" + kId + "|"},
      {kServer, kText, "TCP:" + kId + "||"},
      {kServer, kText, "TCP:" + kId + "|h|"},
      {kServer, kText, "TCP:" + kId + "|:1|"},
      {kServer, kText, "TCP:" + kId + "|h:|"},
      {kServer, kText, "TCP:" + kId + "|h:0|"},
      {kServer, kText, "TCP:" + kId + "|h:080|"},
      {kServer, kText, "TCP:" + kId + "|h:65536|"},
      {kServer, kText, "TCP:" + kId + "|h:18446744073709551617|"},
      {kServer, kText, "TCP:" + kId + "|h:1x|"},
      {kServer, kText, "TCP:" + kId + "|h:-1|"},
      {kServer, kText, "TCP:" + kId + "|h x:1|"},
      {kServer, kText, "TCP:" + kId + "|h\n:1|"},
      {kServer, kText, "TCP:" + kId + "|h\xE2\x82\xAC:1|"},
      {kServer, kText, "TCP:" + kId + "|::1:80|"},
      {kServer, kText, "TCP:" + kId + "|[::1]|"},
      {kServer, kText, "TCP:" + kId + "|[::1]x:80|"},
      {kServer, kText, "TCP:" + kId + "|[[::1]]:80|"},
      {kServer, kText, "TCP:" + kId + "|[::1:80|"},
      {kServer, kText, "TCP:" + kId + "|[h]:80|"},
      {kServer, kText, "TCP:" + kId + "|[]:80|"},
      {kServer, kText, "TCP:" + kId + "|[:80|"},
      {kServer, kText, "TCP:" + kId + "|" + kLongHost + "h:1|"},
      {kServer, kText, "TCP:" + kId + "|" + std::string(5000, 'h') + ":1|"},
      {kServer, kText, "UDP_CONNECT:" + kId},
      {kServer, kText, "UDP_CONNECT:" + kId + "|h:1|"},
      {kServer, kText, "UDP_CONNECT:" + kId + "|" + kLongHost + "h:1"},
      {kClient, kBinary, "UDP_DATA:" + kId + "|payload"},
      {kClient, kBinary, "UDP_DATA:" + kId + "|::x|payload"},
      {kClient, kBinary, "UDP_DATA:" + kId + "|h:0|payload"},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(row.message);
    const LegacyResult result = Read(row.reader, row.opcode, row.message);
    EXPECT_TRUE(result.malformed);
    // The rest is swallowed, whatever it is, and the next message is read as if nothing had been.
    EXPECT_TRUE(Read(row.reader, row.opcode, row.message + "\n" + std::string(1000, '\xFF')).malformed);
    LegacyDecoder decoder(row.reader);
    EXPECT_TRUE(ReadLegacy(decoder, row.opcode, row.message, 1).malformed);
    const LegacyResult next =
        ReadLegacy(decoder, kBinary, row.reader == kServer ? "UDP_DATA:" + kId + "|x" : "DATA:" + kId + "|x", 1);
    EXPECT_EQ(next.payload, "x");
  }
}

TEST(Legacy, SenderInBracketsIsUnderstood) {
  const LegacyResult result = Read(kClient, kBinary, "UDP_DATA:" + kId + "|[::1]:53|x");
  EXPECT_FALSE(result.malformed);
  EXPECT_EQ(result.host, "::1");
  EXPECT_EQ(result.head.port, 53);
}

TEST(Legacy, LongTextsAreCut) {
  const std::string text(5000, 'e');
  EXPECT_EQ(Read(kClient, kText, "ERROR:" + text).text, kLongText);
  EXPECT_EQ(Read(kClient, kText, "UDP_ERROR:" + kId + "|" + text).text, kLongText);
  std::array<uint8_t, kMaxLegacyHeadBytes> out;
  const auto size = EncodeLegacyHead(out, kServer, {.type = LegacyType::kError, .text = text});
  EXPECT_EQ(AsString(std::span(out).first(size.value())), "ERROR:" + kLongText);
}

TEST(Legacy, TargetsThatCannotTravelAreRefused) {
  std::array<uint8_t, kMaxLegacyHeadBytes> out;
  const auto id = *ConnectionId::Parse(kId);
  for (const std::string& host : {std::string(), std::string(256, 'h'), std::string("a|b"), std::string("a b"),
                                  std::string("a\nb"), std::string("[::1]"), std::string("\xE2\x82\xAC")}) {
    EXPECT_FALSE(EncodeLegacyHead(out, kClient, {.type = LegacyType::kTcp, .id = id, .host = host, .port = 1})) << host;
    EXPECT_FALSE(EncodeLegacyHead(out, kServer, {.type = LegacyType::kUdpData, .id = id, .host = host, .port = 1}));
  }
  EXPECT_FALSE(EncodeLegacyHead(out, kClient, {.type = LegacyType::kUdpConnect, .id = id, .host = "h", .port = 0}));
}

TEST(Legacy, LargestHeadFits) {
  const std::string host = "2001:" + std::string(250, 'f');
  std::array<uint8_t, kMaxLegacyHeadBytes> out;
  for (const LegacyType type : {LegacyType::kTcp, LegacyType::kUdpConnect}) {
    const auto size =
        EncodeLegacyHead(out, kClient, {.type = type, .id = *ConnectionId::Parse(kId), .host = host, .port = 65535});
    ASSERT_TRUE(size.has_value());
    EXPECT_EQ(Read(kServer, kText, AsString(std::span(out).first(*size))).host, host);
  }
}

TEST(Legacy, DataHeadIsTheGeneralOne) {
  std::array<uint8_t, kMaxLegacyHeadBytes> general;
  std::array<uint8_t, kLegacyDataHeadBytes> data;
  const auto id = *ConnectionId::Parse(kId);
  const auto size = EncodeLegacyHead(general, kClient, {.type = LegacyType::kData, .id = id});
  EXPECT_EQ(EncodeLegacyDataHead(data, id), size);
  EXPECT_EQ(AsString(data), AsString(std::span(general).first(size.value())));
}

TEST(ConnectionId, FromRandomIsVersion4) {
  std::array<uint8_t, 16> random;
  random.fill(0xFF);
  EXPECT_EQ(ConnectionId::FromRandom(random).view(), "ffffffff-ffff-4fff-bfff-ffffffffffff");
  random.fill(0);
  EXPECT_EQ(ConnectionId::FromRandom(random).view(), "00000000-0000-4000-8000-000000000000");
  for (size_t i = 0; i < random.size(); ++i) random[i] = static_cast<uint8_t>(i * 0x11);
  const ConnectionId id = ConnectionId::FromRandom(random);
  EXPECT_EQ(id.view(), "00112233-4455-4677-8899-aabbccddeeff");
  EXPECT_EQ(ConnectionId::Parse(id.view()), id);
}

TEST(ConnectionId, IsAKey) {
  absl::flat_hash_set<ConnectionId> ids;
  std::array<uint8_t, 16> random = {};
  for (int i = 0; i < 256; ++i) {
    random[15] = static_cast<uint8_t>(i);
    EXPECT_TRUE(ids.insert(ConnectionId::FromRandom(random)).second);
    EXPECT_FALSE(ids.insert(ConnectionId::FromRandom(random)).second);
  }
  EXPECT_EQ(ids.size(), 256u);
}

}  // namespace
}  // namespace tunnel::proto
