// docs/wire-native.md has bytes in it. They are what the codec writes and reads.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "proto/mux_negotiation.h"
#include "tests/unit/proto/mux_transcript.h"

namespace tunnel::proto {
namespace {

std::string Page() {
  std::ifstream file(TUNNEL_SOURCE_ROOT "/docs/wire-native.md");
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

struct Step {
  Role sender;
  std::string described;
  std::string bytes;
};

// The lines "C NAME ..." or "S NAME ..." and the line of hexadecimal digits below each.
std::vector<Step> StepsOf(const std::string& page) {
  std::vector<Step> steps;
  std::istringstream lines(page);
  bool bytes_follow = false;
  for (std::string line; std::getline(lines, line);) {
    if (bytes_follow) {
      std::erase_if(line, [](char c) { return c == ' ' || c == '|'; });
      for (size_t at = 0; at < line.size(); at += 2) {
        steps.back().bytes.push_back(static_cast<char>(std::stoi(line.substr(at, 2), nullptr, 16)));
      }
      bytes_follow = false;
    } else if (line.starts_with("C ") || line.starts_with("S ")) {
      steps.push_back({.sender = line[0] == 'C' ? Role::kClient : Role::kServer, .described = line.substr(2)});
      bytes_follow = true;
    }
  }
  return steps;
}

struct Sent {
  MuxFrame frame;
  Target address = {};
  std::string payload = {};
};

TEST(MuxPage, WorkedBytesAreTheCodecs) {
  using T = MuxType;
  const std::vector<uint8_t> opaque = {0, 0, 0, 0, 0, 0, 0, 1};
  const std::vector<Sent> sent = {
      {{.type = T::kOpen, .stream = 1, .limit = 262144}, {"example.com", 80}, "GET /\r\n"},
      {{.type = T::kOpened, .stream = 1, .limit = 262144}, {"192.0.2.1", 33000}},
      {{.type = T::kCredit, .stream = 1, .offset = 7, .limit = 262151}},
      {{.type = T::kData, .stream = 1}, {}, "0123456789"},
      {{.type = T::kResume, .stream = 1, .generation = 1, .offset = 6, .limit = 262144}},
      {{.type = T::kResumed, .stream = 1, .generation = 1, .offset = 7, .limit = 262151}},
      {{.type = T::kData, .fin = true, .stream = 1}, {}, "6789"},
      {{.type = T::kCredit, .fin = true, .stream = 1, .offset = 10, .limit = 262154}},
      {{.type = T::kData, .fin = true, .stream = 1}},
      {{.type = T::kCredit, .fin = true, .stream = 1, .offset = 7, .limit = 262151}},
      {{.type = T::kOpen, .stream = 1, .generation = 1, .limit = 262144}, {"example.com", 80}},
      {{.type = T::kOpen, .kind = MuxKind::kUdp, .stream = 3}, {"0.0.0.0", 0}},
      {{.type = T::kDatagram, .stream = 3}, {"2001:db8::53", 53}, std::string("\0\1", 2)},
      {{.type = T::kOpen, .kind = MuxKind::kListen, .stream = 5}, {"127.0.0.1", 0}},
      {{.type = T::kOpened, .stream = 5}, {"127.0.0.1", 40000}},
      {{.type = T::kOpen, .stream = 2, .limit = 262144}, {"127.0.0.1", 40000}},
      {{.type = T::kOpened, .status = 5, .stream = 2}, {"0.0.0.0", 0}},
      {{.type = T::kReset, .stream = 3, .code = 2, .reason = "kept for 30 s"}},
      {{.type = T::kPing, .opaque = opaque}},
      {{.type = T::kPong, .opaque = opaque}},
      {{.type = T::kGoAway, .code = 1}},
  };
  const std::vector<Step> steps = StepsOf(Page());
  ASSERT_EQ(steps.size(), sent.size());
  for (size_t i = 0; i < steps.size(); ++i) {
    const Step& step = steps[i];
    SCOPED_TRACE(step.described);
    MuxFrame frame = sent[i].frame;
    frame.address = &sent[i].address;
    EXPECT_EQ(DescribeMux(frame), step.described);
    EXPECT_EQ(WriteMux(step.sender, frame, sent[i].payload), step.bytes);
    for (const size_t piece : {size_t{0}, size_t{1}, size_t{5}}) {
      MuxDecoder decoder(PeerOf(step.sender));
      const MuxResult result = ReadMux(decoder, Opcode::kBinary, step.bytes, piece);
      EXPECT_EQ(result.error, "");
      EXPECT_TRUE(result.ended);
      EXPECT_EQ(DescribeMux(result.View()), step.described);
      EXPECT_EQ(result.payload, sent[i].payload);
    }
  }
}

TEST(MuxPage, NegotiationIsTheCodecs) {
  const std::string page = Page();
  std::array<uint8_t, kMuxSessionIdBytes> session{};
  for (size_t i = 0; i < session.size(); ++i) session[i] = static_cast<uint8_t>(i);
  const MuxOffer offer{.session = MuxSessionId(session), .window = 262144};
  const MuxAnswer answer{.window = 262144, .resume_seconds = 30, .epoch = 7};
  const auto has = [&](std::string_view line) { return page.find(line) != std::string::npos; };
  EXPECT_TRUE(has(fmt::format("\nrequest    {}: {}\n", kMuxHeaderName, FormatMuxOffer(offer))));
  EXPECT_TRUE(has(fmt::format("\nresponse   {}: {}\n", kMuxHeaderName, FormatMuxAnswer(answer))));
}

TEST(MuxPage, NamesEveryTypeAndItsNumber) {
  const std::string page = Page();
  for (int type = 1; type <= static_cast<int>(MuxType::kPad); ++type) {
    const std::string row = fmt::format("\n| {} | {} |", type, NameOf(static_cast<MuxType>(type)));
    EXPECT_NE(page.find(row), std::string::npos) << row;
  }
}

}  // namespace
}  // namespace tunnel::proto
