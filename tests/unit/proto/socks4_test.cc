#include "proto/socks4.h"

#include <gtest/gtest.h>

#include <string>

#include "guarded_input.h"

namespace tunnel::proto {
namespace {

using Kind = Socks4Event::Kind;
using std::string_literals::operator""s;

struct Outcome {
  std::string log;
  std::string left;
};

Outcome Negotiate(const Arrival& arrival) {
  Socks4Server server;
  Outcome outcome;
  bool done = false;
  for (const std::string& piece : arrival.pieces) {
    if (done) {
      outcome.left += piece;
      continue;
    }
    const ExactBytes bytes(piece);
    server.Feed({reinterpret_cast<const uint8_t*>(bytes.view().data()), bytes.view().size()});
    const Socks4Event event = server.Next();
    switch (event.kind) {
      case Kind::kNeedMore:
        EXPECT_EQ(server.consumed(), piece.size());
        break;
      case Kind::kRequest:
        outcome.log = ToString(event.target);
        done = true;
        break;
      case Kind::kError:
        outcome.log = event.has_reply ? "refused" : "silence";
        EXPECT_EQ(event.reply, Socks4Reply::kRejected);
        EXPECT_FALSE(event.reason.empty());
        done = true;
        break;
      case Kind::kPaused:
        ADD_FAILURE();
        break;
    }
    if (done) {
      EXPECT_EQ(server.Next().kind, Kind::kPaused);
    }
    outcome.left += piece.substr(server.consumed());
  }
  return outcome;
}

TEST(Socks4, NegotiatesHoweverTheBytesArrive) {
  const std::string name(255, 'a');
  const struct {
    const char* what;
    std::string input;
    std::string log;
  } cases[] = {
      {"an address", "\4\1\0\x50\x7f\0\0\1user\0"s, "127.0.0.1:80"},
      {"no user id", "\4\1\1\xbb\1\2\3\4\0"s, "1.2.3.4:443"},
      {"the longest user id", "\4\1\1\xbb\1\2\3\4"s + std::string(255, 'u') + "\0"s, "1.2.3.4:443"},
      {"the zero address is no name", "\4\1\0\x50\0\0\0\0\0"s, "0.0.0.0:80"},
      {"a low address is no name", "\4\1\0\x50\0\0\1\0\0"s, "0.0.1.0:80"},
      {"4a", "\4\1\0\x50\0\0\0\1u\0host.test\0"s, "host.test:80"},
      {"4a with the largest mark", "\4\1\0\x50\0\0\0\xff\0host.test\0"s, "host.test:80"},
      {"4a, the longest name", "\4\1\0\x50\0\0\0\1\0"s + name + "\0"s, name + ":80"},
      {"BIND", "\4\2\0\x50\1\2\3\4\0"s, "refused"},
      {"no command", "\4\0\0\x50\1\2\3\4\0"s, "refused"},
      {"port 0", "\4\1\0\0\1\2\3\4\0"s, "refused"},
      {"4a, an empty name", "\4\1\0\x50\0\0\0\1\0\0"s, "refused"},
      {"4a, a name with a space", "\4\1\0\x50\0\0\0\1\0a b\0"s, "refused"},
      {"4a, a number that is no address", "\4\1\0\x50\0\0\0\1\0"s + "2130706433\0"s, "refused"},
      {"version 5", "\5"s, "silence"},
      {"HTTP", "G"s, "silence"},
  };
  for (const auto& c : cases) {
    ForEachArrival(c.input, [&](const Arrival& arrival) {
      SCOPED_TRACE(std::string(c.what) + ", " + std::string(arrival.how));
      const Outcome outcome = Negotiate(arrival);
      EXPECT_EQ(outcome.log, c.log);
      EXPECT_EQ(outcome.left.size(), arrival.trailing);
    });
  }
}

TEST(Socks4, RefusesWhatNeverEnds) {
  for (const std::string& start : {"\4\1\0\x50\1\2\3\4"s, "\4\1\0\x50\0\0\0\1\0"s}) {
    EXPECT_EQ(Negotiate({.pieces = {start + std::string(255, 'a')}}).log, "");
    EXPECT_EQ(Negotiate({.pieces = {start + std::string(256, 'a')}}).log, "refused");
    EXPECT_EQ(Negotiate({.pieces = {start + std::string(70000, 'a')}}).log, "refused");
  }
}

TEST(Socks4, TruncatedRequestsWait) {
  const std::string whole = "\4\1\0\x50\0\0\0\1user\0host\0"s;
  for (size_t size = 0; size < whole.size(); ++size) {
    EXPECT_EQ(Negotiate({.pieces = {whole.substr(0, size)}}).log, "") << size;
  }
}

TEST(Socks4, Replies) {
  EXPECT_EQ(EncodeSocks4Reply(Socks4Reply::kGranted), (std::array<uint8_t, 8>{0, 0x5a, 0, 0, 0, 0, 0, 0}));
  EXPECT_EQ(EncodeSocks4Reply(Socks4Reply::kRejected)[1], 0x5b);
  EXPECT_EQ(EncodeSocks4Reply(Socks4Reply::kUserRejected)[1], 0x5d);
}

}  // namespace
}  // namespace tunnel::proto
