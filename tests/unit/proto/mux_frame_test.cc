#include "proto/mux_frame.h"

#include <gtest/gtest.h>

#include <array>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "tests/unit/proto/mux_reading.h"

namespace tunnel::proto {
namespace {

constexpr Role kServer = Role::kServer;
constexpr Role kClient = Role::kClient;
constexpr uint32_t kLastId = std::numeric_limits<uint32_t>::max();

using std::string_literals::operator""s;

// What it says when bytes follow that frame in the same message.
enum class Trailing { kPayload, kTooLong, kNoFirstBytes };

struct Row {
  std::string hex;
  std::string described;  // DescribeMux without payload and end
  Role reader;
  MuxFrame frame;
  Target address;
  Trailing trailing;
};

const std::string kLongName(255, 'h');
const std::string kLongNameHex = [] {
  std::string hex;
  for (int i = 0; i < 255; ++i) hex += "68";
  return hex;
}();
const std::string kUnix = "unix:/run/s";
const std::string kUnixHex = "03 0b 756e69783a2f72756e2f73 0000";
const std::vector<uint8_t> kOpaque(kMuxMaxOpaqueBytes, 0xab);

// Every type, in each direction, with least and most in each field.
std::vector<Row> Rows() {
  using T = MuxType;
  const std::string max = "7fffffffffffffff";
  return {
      {"0100 0000 00000001 01 00000000 0000000000040000 01 c0000201 0050",
       "OPEN stream=1 kind=tcp generation=0 limit=262144 address=192.0.2.1:80",
       kServer,
       {.type = T::kOpen, .stream = 1, .limit = 262144},
       {"192.0.2.1", 80},
       Trailing::kPayload},
      {"0100 0000 00000002 01 00000000 0000000000000000 04 20010db8000000000000000000000001 ffff",
       "OPEN stream=2 kind=tcp generation=0 limit=0 address=[2001:db8::1]:65535",
       kClient,
       {.type = T::kOpen, .stream = 2},
       {"2001:db8::1", 65535},
       Trailing::kPayload},
      {"0100 0000 ffffffff 01 00000000 " + max + " 03 01 61 0001",
       "OPEN stream=4294967295 kind=tcp generation=0 limit=9223372036854775807 address=a:1",
       kServer,
       {.type = T::kOpen, .stream = kLastId, .limit = kMuxMaxOffset},
       {"a", 1},
       Trailing::kPayload},
      {"0100 0000 00000001 01 00000000 0000000000000000 03 ff " + kLongNameHex + " 0001",
       "OPEN stream=1 kind=tcp generation=0 limit=0 address=" + kLongName + ":1",
       kServer,
       {.type = T::kOpen, .stream = 1},
       {kLongName, 1},
       Trailing::kPayload},
      {"0100 0000 00000001 01 00000000 0000000000000000 " + kUnixHex,
       "OPEN stream=1 kind=tcp generation=0 limit=0 address=" + kUnix,
       kServer,
       {.type = T::kOpen, .stream = 1},
       {kUnix, 0},
       Trailing::kPayload},
      {"0100 0000 00000001 01 ffffffff 0000000000000000 03 01 61 0001",
       "OPEN stream=1 kind=tcp generation=4294967295 limit=0 address=a:1",
       kServer,
       {.type = T::kOpen, .stream = 1, .generation = kLastId},
       {"a", 1},
       Trailing::kNoFirstBytes},
      {"0100 0000 00000003 02 00000000 0000000000000000 01 00000000 0000",
       "OPEN stream=3 kind=udp generation=0 limit=0 address=0.0.0.0:0",
       kServer,
       {.type = T::kOpen, .kind = MuxKind::kUdp, .stream = 3},
       {"0.0.0.0", 0},
       Trailing::kNoFirstBytes},
      {"0100 0000 00000004 02 00000000 0000000000000000 01 00000000 0001",
       "OPEN stream=4 kind=udp generation=0 limit=0 address=0.0.0.0:1",
       kClient,
       {.type = T::kOpen, .kind = MuxKind::kUdp, .stream = 4},
       {"0.0.0.0", 1},
       Trailing::kNoFirstBytes},
      {"0100 0000 00000005 03 00000000 0000000000000000 01 00000000 0000",
       "OPEN stream=5 kind=listen generation=0 limit=0 address=0.0.0.0:0",
       kServer,
       {.type = T::kOpen, .kind = MuxKind::kListen, .stream = 5},
       {"0.0.0.0", 0},
       Trailing::kNoFirstBytes},
      {"0100 0000 00000005 03 00000007 0000000000000000 " + kUnixHex,
       "OPEN stream=5 kind=listen generation=7 limit=0 address=" + kUnix,
       kServer,
       {.type = T::kOpen, .kind = MuxKind::kListen, .stream = 5, .generation = 7},
       {kUnix, 0},
       Trailing::kNoFirstBytes},
      {"0200 0000 00000001 00 0000000000040000 01 00000000 0000",
       "OPENED stream=1 status=0 limit=262144 address=0.0.0.0:0",
       kClient,
       {.type = T::kOpened, .stream = 1, .limit = 262144},
       {"0.0.0.0", 0},
       Trailing::kTooLong},
      {"0200 0000 00000002 ff " + max + " 03 ff " + kLongNameHex + " ffff",
       "OPENED stream=2 status=255 limit=9223372036854775807 address=" + kLongName + ":65535",
       kServer,
       {.type = T::kOpened, .status = 255, .stream = 2, .limit = kMuxMaxOffset},
       {kLongName, 65535},
       Trailing::kTooLong},
      {"0200 0000 00000001 00 0000000000000000 " + kUnixHex,
       "OPENED stream=1 status=0 limit=0 address=" + kUnix,
       kClient,
       {.type = T::kOpened, .stream = 1},
       {kUnix, 0},
       Trailing::kTooLong},
      {"0301 0000 00000001",
       "DATA stream=1 fin",
       kServer,
       {.type = T::kData, .fin = true, .stream = 1},
       {},
       Trailing::kPayload},
      {"0301 0000 fffffffe",
       "DATA stream=4294967294 fin",
       kClient,
       {.type = T::kData, .fin = true, .stream = kLastId - 1},
       {},
       Trailing::kPayload},
      {"0400 0000 00000001 0000000000000000 0000000000000000",
       "CREDIT stream=1 consumed=0 limit=0",
       kServer,
       {.type = T::kCredit, .stream = 1},
       {},
       Trailing::kTooLong},
      {"0401 0000 00000002 " + max + " " + max,
       "CREDIT stream=2 consumed=9223372036854775807 limit=9223372036854775807 fin",
       kClient,
       {.type = T::kCredit, .fin = true, .stream = 2, .offset = kMuxMaxOffset, .limit = kMuxMaxOffset},
       {},
       Trailing::kTooLong},
      {"0500 0000 00000001 00000003",
       "RESET stream=1 code=3 reason=\"\"",
       kServer,
       {.type = T::kReset, .stream = 1, .code = 3},
       {},
       Trailing::kTooLong},
      {"0500 0000 00000001 ffffffff 67c3a96f",
       "RESET stream=1 code=4294967295 reason=\"g\xc3\xa9o\"",
       kClient,
       {.type = T::kReset, .stream = 1, .code = kLastId, .reason = "g\xc3\xa9o"},
       {},
       Trailing::kTooLong},
      {"0600 0000 00000003 01 c0000235 0035",
       "DATAGRAM stream=3 address=192.0.2.53:53",
       kServer,
       {.type = T::kDatagram, .stream = 3},
       {"192.0.2.53", 53},
       Trailing::kPayload},
      {"0600 0000 00000003 03 ff " + kLongNameHex + " 0035",
       "DATAGRAM stream=3 address=" + kLongName + ":53",
       kClient,
       {.type = T::kDatagram, .stream = 3},
       {kLongName, 53},
       Trailing::kPayload},
      {"0700 0000 00000000 abababababababab",
       "PING stream=0 opaque=abababababababab",
       kServer,
       {.type = T::kPing, .opaque = std::span(kOpaque).first(8)},
       {},
       Trailing::kTooLong},
      {"0800 0000 00000000 " + Repeat("ab", 64),
       "PONG stream=0 opaque=" + Repeat("ab", 64),
       kClient,
       {.type = T::kPong, .opaque = kOpaque},
       {},
       Trailing::kTooLong},
      {"0900 0000 00000001 00000001 0000000000000000 0000000000000000",
       "RESUME stream=1 generation=1 received=0 limit=0",
       kServer,
       {.type = T::kResume, .stream = 1, .generation = 1},
       {},
       Trailing::kTooLong},
      {"0901 0000 00000002 ffffffff 0000000000000005 " + max,
       "RESUME stream=2 generation=4294967295 received=5 limit=9223372036854775807 fin",
       kServer,
       {.type = T::kResume, .fin = true, .stream = 2, .generation = kLastId, .offset = 5, .limit = kMuxMaxOffset},
       {},
       Trailing::kTooLong},
      {"0a01 0000 00000001 00000002 0000000000000007 0000000000000007",
       "RESUMED stream=1 generation=2 received=7 limit=7 fin",
       kClient,
       {.type = T::kResumed, .fin = true, .stream = 1, .generation = 2, .offset = 7, .limit = 7},
       {},
       Trailing::kTooLong},
      {"0b00 0000 00000000 00000001 627965",
       "GOAWAY stream=0 code=1 reason=\"bye\"",
       kServer,
       {.type = T::kGoAway, .code = 1, .reason = "bye"},
       {},
       Trailing::kTooLong},
      {"0b00 0000 00000000 00000000",
       "GOAWAY stream=0 code=0 reason=\"\"",
       kClient,
       {.type = T::kGoAway},
       {},
       Trailing::kTooLong},
  };
}

TEST(MuxFrame, EveryTypeIsReadAndWritten) {
  for (const Row& row : Rows()) {
    SCOPED_TRACE(row.described);
    const std::string message = FromHex(row.hex);
    EXPECT_EQ(ReadMuxAll(row.reader, message), row.described + " end");
    MuxFrame frame = row.frame;
    frame.address = &row.address;
    EXPECT_EQ(WriteMux(PeerOf(row.reader), frame), message);

    const std::string trailed = message + "xyz";
    switch (row.trailing) {
      case Trailing::kPayload:
        EXPECT_EQ(ReadMuxAll(row.reader, trailed), row.described + " payload=3:xyz end");
        break;
      case Trailing::kTooLong: {
        // Where the frame has room for more, the bytes are read as its own; beyond that they are too many.
        const std::string most = message + std::string(kMuxMaxFieldBytes, 'x');
        EXPECT_EQ(ReadMuxAll(row.reader, most), "nothing error: payload too long for its type");
        break;
      }
      case Trailing::kNoFirstBytes:
        EXPECT_EQ(ReadMuxAll(row.reader, trailed), "nothing error: first bytes in an OPEN that has none");
        break;
    }
    // Cut anywhere it is an error, but where bulk may end.
    for (size_t cut = 0; cut < message.size(); ++cut) {
      const bool has_reason = frame.type == MuxType::kReset || frame.type == MuxType::kGoAway;
      const bool has_less = (has_reason && cut >= kMuxHeaderBytes + kMuxCodeBytes) ||
                            (frame.type == MuxType::kPong && cut >= kMuxHeaderBytes + kMuxMinOpaqueBytes);
      if (has_less) continue;
      EXPECT_EQ(ReadMuxAll(row.reader, message.substr(0, cut)), cut < kMuxHeaderBytes
                                                                    ? "nothing error: shorter than a header"
                                                                    : "nothing error: payload too short for its type");
    }
  }
}

TEST(MuxFrame, FramesFollowOneAnother) {
  for (const Role reader : {kServer, kClient}) {
    for (const size_t piece : {size_t{0}, size_t{1}, size_t{3}}) {
      MuxDecoder decoder(reader);
      for (const Row& row : Rows()) {
        if (row.reader != reader) continue;
        EXPECT_EQ(DescribeMux(ReadMux(decoder, Opcode::kBinary, FromHex(row.hex), piece)), row.described + " end");
        EXPECT_EQ(DescribeMux(ReadMux(decoder, Opcode::kBinary, FromHex("ff77 0000 00000009 01"), piece)), "nothing");
      }
    }
  }
}

TEST(MuxFrame, TheFrameComesBeforeItsPayload) {
  // A server connects, and an application gets its bytes, before the message has ended.
  using Kind = MuxDecoder::EventKind;
  for (const std::string& head : {FromHex("0300 0000 00000001"), FromHex("0600 0000 00000001 01 c0000201 0050"),
                                  FromHex("0100 0000 00000001 01 00000000 0000000000000000 01 c0000201 0050")}) {
    MuxDecoder decoder(kServer);
    decoder.Begin(Opcode::kBinary);
    decoder.Feed(AsBytes(std::string_view(head).substr(0, head.size() - 1)));
    EXPECT_EQ(decoder.Next().kind, Kind::kNeedMore);
    decoder.Feed(AsBytes(std::string_view(head).substr(head.size() - 1)));
    EXPECT_EQ(decoder.Next().kind, Kind::kFrame);
    EXPECT_EQ(decoder.Next().kind, Kind::kNeedMore);
    const std::string piece = "abc";
    decoder.Feed(AsBytes(piece));
    const MuxDecoder::Event event = decoder.Next();
    EXPECT_EQ(event.kind, Kind::kPayload);
    EXPECT_EQ(static_cast<const void*>(event.payload.data()), piece.data());
    EXPECT_EQ(event.payload.size(), piece.size());
    EXPECT_EQ(decoder.Next().kind, Kind::kNeedMore);
    decoder.Finish();
    EXPECT_EQ(decoder.Next().kind, Kind::kEnd);
    EXPECT_EQ(decoder.Next().kind, Kind::kNeedMore);
  }
}

TEST(MuxFrame, AddressesThatCannotTravelAreRefused) {
  const auto write = [](const MuxFrame& frame, const Target& target) {
    MuxFrame addressed = frame;
    addressed.address = &target;
    EXPECT_EQ(MayStandInMux(addressed), WriteMux(kClient, addressed).has_value());
    return MayStandInMux(addressed);
  };
  const MuxFrame tcp{.type = MuxType::kOpen, .stream = 1};
  const MuxFrame udp{.type = MuxType::kOpen, .kind = MuxKind::kUdp, .stream = 1};
  const MuxFrame listen{.type = MuxType::kOpen, .kind = MuxKind::kListen, .stream = 1};
  const MuxFrame opened{.type = MuxType::kOpened, .stream = 2};
  const MuxFrame datagram{.type = MuxType::kDatagram, .stream = 1};
  for (const MuxFrame& frame : {tcp, udp, listen, opened, datagram}) {
    for (const std::string& host : {""s, std::string(256, 'h'), "a|b"s, "a b"s, "a\nb"s, "[::1]"s, "127.1"s,
                                    "\xc3\xa9"s, "unix:run"s, "unix:/" + std::string(200, 'p')}) {
      EXPECT_FALSE(write(frame, {host, 1})) << host;
      EXPECT_FALSE(write(frame, {host, 0})) << host;
    }
    EXPECT_FALSE(write(frame, {kUnix, 1}));
    EXPECT_TRUE(write(frame, {"a", 1}));
    EXPECT_EQ(write(frame, {"::", 0}),
              frame.type != MuxType::kDatagram && !(frame.type == MuxType::kOpen && frame.kind == MuxKind::kTcp));
    EXPECT_EQ(write(frame, {kUnix, 0}), frame.type != MuxType::kDatagram && frame.kind != MuxKind::kUdp);
  }
}

TEST(MuxFrame, ReasonsAreCutBetweenCharacters) {
  const auto reason_of = [](std::string_view reason) {
    const auto message = WriteMux(kClient, {.type = MuxType::kReset, .stream = 1, .reason = reason});
    EXPECT_EQ(ReadMuxAll(kServer, message.value()).find("error"), std::string::npos);
    return message->substr(kMuxHeaderBytes + kMuxCodeBytes);
  };
  EXPECT_EQ(reason_of(std::string(256, 'r')), std::string(256, 'r'));
  EXPECT_EQ(reason_of(std::string(1000, 'r')), std::string(256, 'r'));
  EXPECT_EQ(reason_of(std::string(255, 'r') + "\xc3\xa9"), std::string(255, 'r'));
  EXPECT_EQ(reason_of(std::string(254, 'r') + "\xc3\xa9"), std::string(254, 'r') + "\xc3\xa9");
  EXPECT_EQ(reason_of("ok\xff later"), "ok");
}

TEST(MuxFrame, DataHeadIsTheGeneralOne) {
  for (const uint32_t stream : {1U, 2U, 0x12345678U, kLastId}) {
    for (const bool fin : {false, true}) {
      std::array<uint8_t, kMuxDataHeadBytes> head{};
      EncodeMuxDataHead(head, stream, fin);
      EXPECT_EQ(AsString(head), WriteMux(kClient, {.type = MuxType::kData, .fin = fin, .stream = stream}));
    }
  }
}

TEST(MuxFrame, RandomFramesComeBack) {
  std::mt19937_64 random(4);
  const auto number = [&](uint64_t most) {
    // Small ones and those near the end as often as the rest.
    const uint64_t any = most == std::numeric_limits<uint64_t>::max() ? random() : random() % (most + 1);
    return random() % 3 == 0   ? std::min<uint64_t>(any % 4, most)
           : random() % 3 == 0 ? most - std::min(any % 4, most)
                               : any;
  };
  const auto host = [&]() -> std::string {
    switch (random() % 3) {
      case 0:
        return fmt::format("{}.{}.{}.{}", random() % 256, random() % 256, random() % 256, random() % 256);
      case 1: {
        IpAddress address{.v6 = true};
        for (uint8_t& byte : address.bytes) byte = static_cast<uint8_t>(random() % 4 == 0 ? random() : 0);
        return ToString(address);
      }
      default:
        return std::string(1 + random() % 254, static_cast<char>('a' + random() % 26)) + "x";
    }
  };
  constexpr auto kCount = static_cast<uint64_t>(MuxType::kGoAway);
  std::array<int, kCount + 1> seen{};
  for (int round = 0; round < 20000; ++round) {
    const Role sender = random() % 2 == 0 ? kClient : kServer;
    const Target target{host(), static_cast<uint16_t>(1 + random() % 65535)};
    std::vector<uint8_t> opaque(kMuxMinOpaqueBytes + random() % (kMuxMaxOpaqueBytes - kMuxMinOpaqueBytes + 1));
    for (uint8_t& byte : opaque) byte = static_cast<uint8_t>(random());
    const std::string reason(random() % (kMuxMaxReasonBytes + 1), 'r');
    std::string payload(random() % 300, static_cast<char>(random()));

    MuxFrame frame{.type = static_cast<MuxType>(1 + random() % kCount)};
    if (frame.type == MuxType::kResume && sender == kServer) frame.type = MuxType::kResumed;
    if (frame.type == MuxType::kResumed && sender == kClient) frame.type = MuxType::kResume;
    ++seen[static_cast<size_t>(frame.type)];
    frame.stream = std::max(uint32_t{2}, static_cast<uint32_t>(number(kLastId)));
    const auto of = [&](Role role) { return role == kClient ? frame.stream | 1 : frame.stream & ~1U; };
    bool bulk = false;
    switch (frame.type) {
      case MuxType::kOpen:
        frame.stream = of(sender);
        frame.kind = static_cast<MuxKind>(1 + random() % (sender == kClient ? 3 : 2));
        if (sender == kClient) frame.generation = static_cast<uint32_t>(number(kLastId));
        frame.limit = number(kMuxMaxOffset);
        frame.address = &target;
        bulk = frame.kind == MuxKind::kTcp && frame.generation == 0;
        break;
      case MuxType::kOpened:
        frame.stream = of(PeerOf(sender));
        frame.status = static_cast<uint8_t>(random());
        frame.limit = number(kMuxMaxOffset);
        frame.address = &target;
        break;
      case MuxType::kDatagram:
        frame.address = &target;
        bulk = true;
        break;
      case MuxType::kData:
        frame.fin = payload.empty() || random() % 2 == 0;
        bulk = true;
        break;
      case MuxType::kCredit:
      case MuxType::kResume:
      case MuxType::kResumed:
        frame.fin = random() % 2 == 0;
        frame.limit = number(kMuxMaxOffset);
        frame.offset = number(frame.limit);
        if (frame.type != MuxType::kCredit) frame.generation = static_cast<uint32_t>(number(kLastId));
        break;
      case MuxType::kReset:
        frame.code = static_cast<uint32_t>(number(kLastId));
        frame.reason = reason;
        break;
      case MuxType::kGoAway:
        frame.stream = 0;
        frame.code = static_cast<uint32_t>(number(kLastId));
        frame.reason = reason;
        break;
      default:
        frame.stream = 0;
        frame.opaque = opaque;
    }
    if (!bulk) payload.clear();
    const std::optional<std::string> message = WriteMux(sender, frame, payload);
    ASSERT_TRUE(message.has_value());
    MuxDecoder decoder(PeerOf(sender));
    const MuxResult result =
        ReadMux(decoder, Opcode::kBinary, *message, [&](size_t left) { return 1 + random() % (2 * left); });
    ASSERT_EQ(result.error, "") << DescribeMux(frame);
    EXPECT_TRUE(result.ended);
    EXPECT_EQ(DescribeMux(result.View()), DescribeMux(frame));
    EXPECT_EQ(result.payload, payload);
    EXPECT_EQ(WriteMux(sender, result.View(), payload), message);
  }
  for (size_t type = 1; type < seen.size(); ++type) EXPECT_GT(seen[type], 100) << type;
}

TEST(MuxFrame, Names) {
  EXPECT_EQ(NameOf(MuxType::kOpen), "OPEN");
  EXPECT_EQ(NameOf(MuxType::kPad), "PAD");
  EXPECT_EQ(NameOf(static_cast<MuxType>(0)), "?");
  EXPECT_EQ(NameOf(static_cast<MuxType>(13)), "?");
}

}  // namespace
}  // namespace tunnel::proto
