#include "proto/socks5_client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "core/status.h"
#include "guarded_input.h"

namespace tunnel::proto {
namespace {

using Kind = Socks5ClientEvent::Kind;
using std::string_literals::operator""s;
using testing::HasSubstr;

// What a whole negotiation came to: what was sent, messages apart, and its end.
struct Outcome {
  std::string sent;
  std::string end;
  absl::Status error;
  bool refused = false;
  std::string left;
};

Outcome Negotiate(const Arrival& arrival, Socks5Command command, const Target& target,
                  const std::optional<Credentials>& credentials) {
  Socks5Client client(command, target, credentials);
  Outcome outcome;
  size_t piece = 0;
  size_t at = 0;
  for (;;) {
    const Socks5ClientEvent event = client.Next();
    switch (event.kind) {
      case Kind::kSend:
        if (!outcome.sent.empty()) outcome.sent += '/';
        outcome.sent.append(event.send.begin(), event.send.end());
        continue;
      case Kind::kNeedMore: {
        if (piece > 0) {
          EXPECT_EQ(client.consumed(), arrival.pieces[piece - 1].size());
        }
        if (piece == arrival.pieces.size()) {
          outcome.end = "needs more";
          return outcome;
        }
        const std::string& next = arrival.pieces[piece++];
        client.Feed({reinterpret_cast<const uint8_t*>(next.data()), next.size()});
        at = piece;
        continue;
      }
      case Kind::kDone:
        outcome.end = ToString(event.bound);
        break;
      case Kind::kError:
        outcome.end = "error";
        outcome.error = event.error;
        outcome.refused = event.refused;
        break;
    }
    if (at > 0) outcome.left = arrival.pieces[at - 1].substr(client.consumed());
    for (; at < arrival.pieces.size(); ++at) outcome.left += arrival.pieces[at];
    return outcome;
  }
}

const Credentials kMe{.user = "me", .password = "pass"};

TEST(Socks5Client, NegotiatesHoweverTheBytesArrive) {
  const std::string zero = "\5\0\0\1\0\0\0\0\0\0"s;
  const std::string request = "\5\1\0\3\13example.org\1\xbb"s;
  const struct {
    const char* what;
    Socks5Command command;
    Target target;
    std::optional<Credentials> credentials;
    std::string input;
    std::string sent;
    std::string end;
  } cases[] = {
      {"name", Socks5Command::kConnect, {"example.org", 443}, {}, "\5\0"s + zero, "\5\1\0/"s + request, "0.0.0.0:0"},
      {"IPv4",
       Socks5Command::kConnect,
       {"192.0.2.1", 80},
       {},
       "\5\0"s + zero,
       "\5\1\0/\5\1\0\1\xc0\0\2\1\0\x50"s,
       "0.0.0.0:0"},
      {"IPv6",
       Socks5Command::kConnect,
       {"::1", 80},
       {},
       "\5\0\5\0\0\4"s + std::string(15, '\0') + "\1\x12\x34",
       "\5\1\0/\5\1\0\4"s + std::string(15, '\0') + "\1\0\x50"s,
       "[::1]:4660"},
      {"password",
       Socks5Command::kConnect,
       {"example.org", 443},
       kMe,
       "\5\2\1\0"s + zero,
       "\5\2\0\2/\1\2me\4pass/"s + request,
       "0.0.0.0:0"},
      {"password not asked for",
       Socks5Command::kConnect,
       {"example.org", 443},
       kMe,
       "\5\0"s + zero,
       "\5\2\0\2/"s + request,
       "0.0.0.0:0"},
      {"empty password",
       Socks5Command::kConnect,
       {"example.org", 443},
       Credentials{.user = "u", .password = ""},
       "\5\2\1\0"s + zero,
       "\5\2\0\2/\1\1u\0/"s + request,
       "0.0.0.0:0"},
      {"bound to a name",
       Socks5Command::kUdpAssociate,
       {"0.0.0.0", 0},
       {},
       "\5\0\5\0\0\3\5relay\0\x35"s,
       "\5\1\0/\5\3\0\1\0\0\0\0\0\0"s,
       "relay:53"},
      {"longest name",
       Socks5Command::kConnect,
       {std::string(255, 'a'), 1},
       {},
       "\5\0\5\0\0\3\xff"s + std::string(255, 'b') + "\0\1"s,
       "\5\1\0/\5\1\0\3\xff"s + std::string(255, 'a') + "\0\1"s,
       std::string(255, 'b') + ":1"},
  };
  for (const auto& c : cases) {
    ForEachArrival(c.input, [&](const Arrival& arrival) {
      SCOPED_TRACE(std::string(c.what) + ", " + std::string(arrival.how));
      const Outcome outcome = Negotiate(arrival, c.command, c.target, c.credentials);
      EXPECT_EQ(outcome.sent, c.sent);
      EXPECT_EQ(outcome.end, c.end) << outcome.error;
      EXPECT_EQ(outcome.left.size(), arrival.trailing);
    });
  }
}

TEST(Socks5Client, SaysWhyThereIsNoWay) {
  const struct {
    const char* what;
    std::optional<Credentials> credentials;
    std::string input;
    absl::StatusCode code;
    bool refused;
    const char* words;
  } cases[] = {
      {"HTTP", {}, "HTTP/1.1 400 Bad Request\r\n", absl::StatusCode::kDataLoss, false, "does not speak SOCKS5"},
      {"SOCKS4", {}, "\0\x5a"s, absl::StatusCode::kDataLoss, false, "does not speak SOCKS5"},
      {"a password is wanted", {}, "\5\xff", absl::StatusCode::kPermissionDenied, false, "without a user"},
      {"no method", kMe, "\5\xff", absl::StatusCode::kPermissionDenied, false, "neither a password nor none"},
      {"GSSAPI", kMe, "\5\1", absl::StatusCode::kDataLoss, false, "method 1, which was not offered"},
      {"password not offered", {}, "\5\2", absl::StatusCode::kDataLoss, false, "method 2, which was not offered"},
      {"wrong password", kMe, "\5\2\1\1", absl::StatusCode::kPermissionDenied, false, "does not accept the user"},
      {"auth version", kMe, "\5\2\5\0"s, absl::StatusCode::kDataLoss, false, "another version"},
      {"reply version", {}, "\5\0\4\0"s, absl::StatusCode::kDataLoss, false, "reply is not SOCKS5"},
      {"general failure", {}, "\5\0\5\1"s, absl::StatusCode::kUnavailable, true, "general failure (reply 1)"},
      {"not allowed", {}, "\5\0\5\2"s, absl::StatusCode::kPermissionDenied, true, "rules do not allow"},
      {"network", {}, "\5\0\5\3"s, absl::StatusCode::kUnavailable, true, "network unreachable"},
      {"host", {}, "\5\0\5\4"s, absl::StatusCode::kUnavailable, true, "host unreachable"},
      {"refused", {}, "\5\0\5\5"s, absl::StatusCode::kUnavailable, true, "connection refused"},
      {"ttl", {}, "\5\0\5\6"s, absl::StatusCode::kDeadlineExceeded, true, "TTL expired"},
      {"command", {}, "\5\0\5\7"s, absl::StatusCode::kUnimplemented, true, "this command"},
      {"address type", {}, "\5\0\5\x8"s, absl::StatusCode::kUnimplemented, true, "type of address"},
      {"another", {}, "\5\0\5\xfe"s, absl::StatusCode::kUnavailable, true, "general failure (reply 254)"},
      {"reserved byte", {}, "\5\0\5\0\1\1"s, absl::StatusCode::kDataLoss, false, "reserved byte"},
      {"unknown address type", {}, "\5\0\5\0\0\2"s, absl::StatusCode::kDataLoss, false, "unknown type"},
      {"no bound name", {}, "\5\0\5\0\0\3\0\0\0"s, absl::StatusCode::kDataLoss, false, "host that is none"},
      {"bad bound name", {}, "\5\0\5\0\0\3\3a b\0\0"s, absl::StatusCode::kDataLoss, false, "host that is none"},
  };
  for (const auto& c : cases) {
    ForEachArrival(c.input, [&](const Arrival& arrival) {
      SCOPED_TRACE(std::string(c.what) + ", " + std::string(arrival.how));
      const Outcome outcome = Negotiate(arrival, Socks5Command::kConnect, {"example.org", 443}, c.credentials);
      EXPECT_EQ(outcome.error.code(), c.code);
      EXPECT_EQ(outcome.refused, c.refused);
      EXPECT_THAT(std::string(MessageOf(outcome.error)), HasSubstr(c.words));
    });
  }
}

TEST(Socks5Client, WaitsForEveryByte) {
  const std::string input = "\5\2\1\0\5\0\0\3\5relay\0\x35"s;
  for (size_t size = 0; size < input.size(); ++size) {
    const Outcome outcome = Negotiate({.how = "cut", .pieces = {input.substr(0, size)}}, Socks5Command::kConnect,
                                      {"example.org", 443}, kMe);
    EXPECT_EQ(outcome.end, "needs more") << size;
  }
}

// What one half sends the other understands.
TEST(Socks5Client, AgreesWithTheServer) {
  Socks5Client client(Socks5Command::kConnect, {"example.org", 443}, kMe);
  Socks5Server server;
  std::string log;
  Socks5Bytes answer;
  for (;;) {
    const Socks5ClientEvent event = client.Next();
    if (event.kind == Kind::kDone) break;
    if (event.kind == Kind::kNeedMore) {
      client.Feed(answer.bytes());
      continue;
    }
    ASSERT_EQ(event.kind, Kind::kSend) << event.error;
    server.Feed(event.send);
    const Socks5Event asked = server.Next();
    if (asked.kind == Socks5Event::Kind::kMethods) {
      server.SelectMethod(Socks5Method::kUserPass);
      answer = EncodeSocks5Method(Socks5Method::kUserPass);
    } else if (asked.kind == Socks5Event::Kind::kUserPass) {
      log += std::string(asked.user) + ":" + std::string(asked.password) + " ";
      server.Authenticate(true);
      answer = EncodeSocks5Auth(true);
    } else {
      log += ToString(asked.target);
      answer = EncodeSocks5Reply(Socks5Reply::kSucceeded);
    }
  }
  EXPECT_EQ(log, "me:pass example.org:443");
}

}  // namespace
}  // namespace tunnel::proto
