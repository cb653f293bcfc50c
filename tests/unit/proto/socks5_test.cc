#include "proto/socks5.h"

#include <gtest/gtest.h>

#include <string>

#include "tests/unit/proto/guarded_input.h"

namespace tunnel::proto {
namespace {

using Kind = Socks5Event::Kind;
using std::string_literals::operator""s;

std::string Text(const Socks5Bytes& bytes) { return {bytes.bytes().begin(), bytes.bytes().end()}; }

// What a whole negotiation came to, as text.
struct Outcome {
  std::string log;
  std::string left;
};

// Negotiates, choosing `method`, admitting the password "pass".
Outcome Negotiate(const Arrival& arrival, Socks5Method method) {
  Socks5Server server;
  Outcome outcome;
  bool done = false;
  for (const std::string& piece : arrival.pieces) {
    if (done) {
      outcome.left += piece;
      continue;
    }
    const ExactBytes bytes(piece);
    server.Feed({reinterpret_cast<const uint8_t*>(bytes.view().data()), bytes.view().size()});
    for (bool more = true; more;) {
      const Socks5Event event = server.Next();
      switch (event.kind) {
        case Kind::kNeedMore:
          EXPECT_EQ(server.consumed(), piece.size());
          more = false;
          break;
        case Kind::kPaused:
          more = false;
          done = true;
          break;
        case Kind::kMethods:
          outcome.log += "methods"s + (event.offers_no_auth ? " none" : "") + (event.offers_user_pass ? " user" : "");
          EXPECT_EQ(server.Next().kind, Kind::kPaused);
          server.SelectMethod(method);
          break;
        case Kind::kUserPass:
          outcome.log += "; " + std::string(event.user) + ":" + std::string(event.password);
          server.Authenticate(event.password == "pass");
          break;
        case Kind::kRequest:
          outcome.log += "; " + std::to_string(static_cast<int>(event.command)) + " " + ToString(event.target);
          break;
        case Kind::kError:
          outcome.log += "; error " + Text(event.reply);
          EXPECT_FALSE(event.reason.empty());
          break;
      }
    }
    outcome.left += piece.substr(server.consumed());
  }
  return outcome;
}

std::string ErrorReply(int code) { return "; error \x05"s + static_cast<char>(code) + "\0\1\0\0\0\0\0\0"s; }

TEST(Socks5, NegotiatesHoweverTheBytesArrive) {
  const std::string none = "\5\1\0"s;
  const std::string connect = none + "\5\1\0"s;
  const auto name_request = [&](const std::string& name) {
    return connect + "\3" + static_cast<char>(name.size()) + name + "\1\xbb";
  };
  const std::string long_name(255, 'a');
  const struct {
    const char* what;
    Socks5Method method;
    std::string input;
    std::string log;
  } cases[] = {
      {"IPv4", Socks5Method::kNoAuth, connect + "\1\x7f\0\0\1\0\x50"s, "methods none; 1 127.0.0.1:80"},
      {"IPv6", Socks5Method::kNoAuth, connect + "\4"s + std::string(15, '\0') + "\1\x1f\x90"s,
       "methods none; 1 [::1]:8080"},
      {"name", Socks5Method::kNoAuth, name_request("Example.com"), "methods none; 1 Example.com:443"},
      {"longest name", Socks5Method::kNoAuth, name_request(long_name), "methods none; 1 " + long_name + ":443"},
      {"address as name", Socks5Method::kNoAuth, name_request("::1"), "methods none; 1 [::1]:443"},
      {"many methods", Socks5Method::kNoAuth, "\5\3\1\2\0\5\1\0\1\1\2\3\4\0\1"s, "methods none user; 1 1.2.3.4:1"},
      {"user", Socks5Method::kUserPass, "\5\1\2\1\2me\4pass\5\1\0\1\1\2\3\4\0\1"s,
       "methods user; me:pass; 1 1.2.3.4:1"},
      {"wrong password", Socks5Method::kUserPass, "\5\1\2\1\2me\4paSs"s, "methods user; me:paSs"},
      {"empty password", Socks5Method::kUserPass, "\5\1\2\1\2me\0"s, "methods user; me:"},
      {"no acceptable method", Socks5Method::kNoAcceptable, "\5\1\7"s, "methods"},
      {"UDP ASSOCIATE", Socks5Method::kNoAuth, none + "\5\3\0\1\0\0\0\0\0\0"s, "methods none; 3 0.0.0.0:0"},

      {"SOCKS4", Socks5Method::kNoAuth, "\4"s, "; error "},
      {"HTTP", Socks5Method::kNoAuth, "G"s, "; error "},
      {"no methods", Socks5Method::kNoAuth, "\5\0"s, "; error \5\xff"},
      {"request of another version", Socks5Method::kNoAuth, none + "\4"s, "methods none; error "},
      {"user/pass of another version", Socks5Method::kUserPass, "\5\1\2\5"s, "methods user; error \1\1"},
      {"empty user", Socks5Method::kUserPass, "\5\1\2\1\0"s, "methods user; error \1\1"},
      {"BIND", Socks5Method::kNoAuth, none + "\5\2\0\1\1\2\3\4\0\1"s, "methods none" + ErrorReply(7)},
      {"command 0", Socks5Method::kNoAuth, none + "\5\0\0\1\1\2\3\4\0\1"s, "methods none" + ErrorReply(7)},
      {"unknown address type", Socks5Method::kNoAuth, none + "\5\1\0\2"s, "methods none" + ErrorReply(8)},
      {"reserved byte", Socks5Method::kNoAuth, none + "\5\1\1\1\1\2\3\4\0\1"s, "methods none" + ErrorReply(1)},
      {"port 0", Socks5Method::kNoAuth, connect + "\1\1\2\3\4\0\0"s, "methods none" + ErrorReply(1)},
      {"empty name", Socks5Method::kNoAuth, name_request(""), "methods none" + ErrorReply(1)},
      {"NUL in name", Socks5Method::kNoAuth, name_request("a\0b"s), "methods none" + ErrorReply(1)},
      {"space in name", Socks5Method::kNoAuth, name_request("a b"), "methods none" + ErrorReply(1)},
      {"line end in name", Socks5Method::kNoAuth, name_request("a\r\n"), "methods none" + ErrorReply(1)},
      {"bar in name", Socks5Method::kNoAuth, name_request("a|b"), "methods none" + ErrorReply(1)},
      {"decimal address as name", Socks5Method::kNoAuth, name_request("2130706433"), "methods none" + ErrorReply(1)},
      {"brackets in name", Socks5Method::kNoAuth, name_request("[::1]"), "methods none" + ErrorReply(1)},
  };
  for (const auto& c : cases) {
    ForEachArrival(c.input, [&c](const Arrival& arrival) {
      SCOPED_TRACE(std::string(c.what) + ", " + std::string(arrival.how));
      const Outcome outcome = Negotiate(arrival, c.method);
      EXPECT_EQ(outcome.log, c.log);
      EXPECT_EQ(outcome.left.size(), arrival.trailing);
    });
  }
}

TEST(Socks5, WaitsForEveryByte) {
  const std::string input = "\5\1\2\1\2me\4pass\5\1\0\3\1a\0\1"s;
  for (size_t size = 0; size < input.size(); ++size) {
    const Outcome outcome = Negotiate({.how = "cut", .pieces = {input.substr(0, size)}}, Socks5Method::kUserPass);
    EXPECT_EQ(outcome.log.find("a:1"), std::string::npos) << size;
    EXPECT_EQ(outcome.left, "") << size;
  }
}

TEST(Socks5, Encodes) {
  EXPECT_EQ(Text(EncodeSocks5Method(Socks5Method::kNoAuth)), "\5\0"s);
  EXPECT_EQ(Text(EncodeSocks5Method(Socks5Method::kNoAcceptable)), "\5\xff"s);
  EXPECT_EQ(Text(EncodeSocks5Auth(true)), "\1\0"s);
  EXPECT_EQ(Text(EncodeSocks5Auth(false)), "\1\1"s);
  EXPECT_EQ(Text(EncodeSocks5Reply(Socks5Reply::kSucceeded)), "\5\0\0\1\0\0\0\0\0\0"s);
  EXPECT_EQ(Text(EncodeSocks5Reply(Socks5Reply::kSucceeded, *ParseIpAddress("10.0.0.1"), 0x1234)),
            "\5\0\0\1\x0a\0\0\1\x12\x34"s);
  EXPECT_EQ(Text(EncodeSocks5Reply(Socks5Reply::kHostUnreachable, *ParseIpAddress("::1"), 80)),
            "\5\4\0\4"s + std::string(15, '\0') + "\1\0\x50"s);
}

}  // namespace
}  // namespace tunnel::proto
