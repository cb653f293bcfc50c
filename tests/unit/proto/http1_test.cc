#include "proto/http1.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "proto/http1_builder.h"
#include "proto/http1_upgrade.h"
#include "tests/unit/proto/guarded_input.h"

namespace tunnel::proto {
namespace {

using Kind = HeadResult::Kind;
using Framing = BodyFraming::Kind;
using std::string_literals::operator""s;

// What a head came to, as text, so that arrivals compare.
std::string Show(const RequestHead& head) {
  std::string text(head.method);
  text += " form=" + std::to_string(static_cast<int>(head.form)) + " host=" + std::string(head.host) +
          " port=" + (head.port ? std::to_string(*head.port) : "-") + " path=" + std::string(head.path) + " 1." +
          std::to_string(head.minor_version) + " framing=" + std::to_string(static_cast<int>(head.framing.kind)) + "," +
          std::to_string(head.framing.length) + (head.persistent ? " persistent" : " close");
  return text;
}

std::string Show(const ResponseHead& head) {
  return std::to_string(head.status) + " \"" + std::string(head.reason) + "\" 1." + std::to_string(head.minor_version) +
         " framing=" + std::to_string(static_cast<int>(head.framing.kind)) + "," + std::to_string(head.framing.length) +
         (head.persistent ? " persistent" : " close");
}

struct Outcome {
  Kind kind = Kind::kNeedMore;
  int status = 0;
  std::string shown;
  size_t left = 0;
};

template <typename Head, typename Parse>
Outcome Run(const Arrival& arrival, Parse parse) {
  std::string bytes;
  size_t scanned = 0;
  Outcome outcome;
  for (const std::string& piece : arrival.pieces) {
    if (outcome.kind != Kind::kNeedMore) {
      outcome.left += piece.size();
      continue;
    }
    bytes += piece;
    const ExactBytes exact(bytes);
    Head head;
    const HeadResult result = parse(exact.view(), head, scanned);
    scanned = bytes.size();
    outcome.kind = result.kind;
    outcome.status = result.status;
    if (result.kind == Kind::kDone) {
      outcome.left = bytes.size() - result.head_bytes;
      outcome.shown = Show(head);
    }
    EXPECT_EQ(result.kind == Kind::kError, !result.reason.empty());
  }
  return outcome;
}

Outcome RunRequest(const Arrival& arrival) {
  return Run<RequestHead>(arrival, [](std::string_view bytes, RequestHead& head, size_t scanned) {
    return ParseRequestHead(bytes, head, scanned);
  });
}

Outcome RunResponse(const Arrival& arrival, std::string_view method) {
  return Run<ResponseHead>(arrival, [method](std::string_view bytes, ResponseHead& head, size_t scanned) {
    return ParseResponseHead(bytes, method, head, scanned);
  });
}

TEST(Http1Request, ReadsEveryForm) {
  const struct {
    std::string input;
    std::string shown;
  } cases[] = {
      {"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET form=0 host=a port=- path=/ 1.1 framing=0,0 persistent"},
      {"GET /x?y=%20&z={|} HTTP/1.1\r\nhOsT:\t a:81 \t\r\nX:\r\n\r\n",
       "GET form=0 host=a port=81 path=/x?y=%20&z={|} 1.1 framing=0,0 persistent"},
      {"GET http://a/b?c HTTP/1.1\r\nHost: A:80\r\n\r\n",
       "GET form=1 host=a port=- path=/b?c 1.1 framing=0,0 persistent"},
      {"GET https://a:443 HTTP/1.1\r\nHost: a\r\n\r\n", "GET form=1 host=a port=443 path= 1.1 framing=0,0 persistent"},
      {"GET http://[::1]:8080/ HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n",
       "GET form=1 host=::1 port=8080 path=/ 1.1 framing=0,0 persistent"},
      {"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\nContent-Length: 0\r\n\r\n",
       "CONNECT form=2 host=a port=443 path= 1.1 framing=0,0 persistent"},
      {"CONNECT [::1]:443 HTTP/1.0\r\n\r\n", "CONNECT form=2 host=::1 port=443 path= 1.0 framing=0,0 close"},
      {"OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: x, Close\r\n\r\n",
       "OPTIONS form=3 host=a port=- path= 1.1 framing=0,0 close"},
      {"GET / HTTP/1.0\r\n\r\n", "GET form=0 host= port=- path=/ 1.0 framing=0,0 close"},
      {"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "GET form=0 host= port=- path=/ 1.0 framing=0,0 persistent"},
      {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9223372036854775807\r\n\r\n",
       "POST form=0 host=a port=- path=/ 1.1 framing=1,9223372036854775807 persistent"},
      {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n",
       "POST form=0 host=a port=- path=/ 1.1 framing=2,0 persistent"},
      {"M-SEARCH / HTTP/1.1\r\nHost: a\r\nX: \x80\xff\t~\r\n\r\n",
       "M-SEARCH form=0 host=a port=- path=/ 1.1 framing=0,0 persistent"},
  };
  for (const auto& c : cases) {
    ForEachArrival(c.input, [&c](const Arrival& arrival) {
      SCOPED_TRACE(c.input + std::string(arrival.how));
      const Outcome outcome = RunRequest(arrival);
      EXPECT_EQ(outcome.kind, Kind::kDone);
      EXPECT_EQ(outcome.shown, c.shown);
      EXPECT_EQ(outcome.left, arrival.trailing);
    });
    for (size_t size = 0; size < c.input.size(); ++size) {
      EXPECT_EQ(RunRequest({.how = "cut", .pieces = {c.input.substr(0, size)}}).kind, Kind::kNeedMore) << size;
    }
  }
}

struct BadRequest {
  int status;
  std::string input;
};

std::vector<BadRequest> BadRequests() {
  const std::string get = "GET / HTTP/1.1\r\nHost: a\r\n";
  const std::string post = "POST / HTTP/1.1\r\nHost: a\r\n";
  const auto line = [](const std::string& request_line) { return request_line + "\r\nHost: a\r\n\r\n"; };
  const auto with = [](const std::string& head, const std::string& field) { return head + field + "\r\n\r\n"; };
  std::string many = get;
  for (int i = 0; i < 100; ++i) many += "X: y\r\n";
  return {
      // The request line.
      {400, "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"},
      {400, "\x16\x03\x01\x02"s},
      {400, " GET / HTTP/1.1\r\n"},
      {400, line("GET  / HTTP/1.1")},
      {400, line("GET /  HTTP/1.1")},
      {400, line("GET / HTTP/1.1 ")},
      {400, line("GET\t/ HTTP/1.1")},
      {400, line("GET /")},
      {400, line("GET")},
      {400, line("GE(T / HTTP/1.1")},
      {400, line("GET / http/1.1")},
      {400, line("GET / HTTP/1.10")},
      {400, line("GET / HTTP/1,1")},
      {505, line("GET / HTTP/2.0")},
      {505, line("GET / HTTP/1.2")},
      {505, line("GET / HTTP/0.9")},
      {505, "PRI * HTTP/2.0\r\n\r\n"},
      {400, line("GET /\x80 HTTP/1.1")},
      {400, line("GET /\x01 HTTP/1.1")},
      {400, line("GET /\r HTTP/1.1")},
      {400, line("GET /#a HTTP/1.1")},
      {400, line("GET * HTTP/1.1")},
      {400, line("GET a HTTP/1.1")},
      {400, line("GET a:80 HTTP/1.1")},
      {400, line("GET ://a/ HTTP/1.1")},
      {400, line("GET 1http://a/ HTTP/1.1")},
      {400, line("GET http:///x HTTP/1.1")},
      {400, line("GET http://u@a/ HTTP/1.1")},
      {400, line("GET http://b/ HTTP/1.1")},
      {400, line("GET http://a:8080/ HTTP/1.1")},
      {400, line("CONNECT / HTTP/1.1")},
      {400, line("CONNECT a HTTP/1.1")},
      {400, line("CONNECT a:0 HTTP/1.1")},
      {400, line("CONNECT ::1:80 HTTP/1.1")},
      {400, line("CONNECT http://a:80/ HTTP/1.1")},
      {400, line("CONNECT u@a:80 HTTP/1.1")},
      // Line ends.
      {400, "GET / HTTP/1.1\nHost: a\n\n"},
      {400, "GET / HTTP/1.1\r\nHost: a\n\r\n"},
      {400, "GET / HTTP/1.1\r\nHost: a\r\n\n"},
      {400, with(get, "X: a\rb")},
      {400, with(get, "X: a\r\rb")},
      {400, with(get, "X: a\r\r")},
      // Fields.
      {400, with(get, "X : a")},
      {400, with(get, "X\t: a")},
      {400, with(get, ": a")},
      {400, with(get, "X")},
      {400, with(get, "X: a\r\n folded")},
      {400, with(get, "X: a\r\n\tfolded")},
      {400, "GET / HTTP/1.1\r\n Host: a\r\n\r\n"},
      {400, with(get, "X\x80: a")},
      {400, with(get, "X: a\0b"s)},
      {400, with(get, "X: a\x0b")},
      {400, with(get, "X: a\x7f")},
      {431, many + "\r\n"},
      {431, get + "X: " + std::string(kHttp1MaxHeadBytes, 'a')},
      {414, "GET /" + std::string(kHttp1MaxStartLineBytes, 'a')},
      // Host.
      {400, "GET / HTTP/1.1\r\n\r\n"},
      {400, with(get, "Host: a")},
      {400, with(get, "hOST: b")},
      {400, "GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n"},
      {400, "GET / HTTP/1.1\r\nHost:\r\n\r\n"},
      {400, "GET / HTTP/1.1\r\nHost: a b\r\n\r\n"},
      {400, "GET / HTTP/1.1\r\nHost: a,b:80:80\r\n\r\n"},
      {400, "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n"},
      {400, "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"},
      {400, "GET / HTTP/1.1\r\nHost: ::1\r\n\r\n"},
      // Lengths: what smuggling is made of.
      {400, with(post, "Content-Length: 5\r\nContent-Length: 6")},
      {400, with(post, "Content-Length: 5\r\nContent-Length: 5")},
      {400, with(post, "Content-Length: 5, 5")},
      {400, with(post, "Content-Length: 5,6")},
      {400, with(post, "Content-Length: +5")},
      {400, with(post, "Content-Length: -5")},
      {400, with(post, "Content-Length: 0x5")},
      {400, with(post, "Content-Length: 5 5")},
      {400, with(post, "Content-Length: 5.0")},
      {400, with(post, "Content-Length:")},
      {400, with(post, "Content-Length: 9223372036854775808")},
      {400, with(post, "Content-Length: 18446744073709551621")},
      {400, with(post, "Content-Length: 99999999999999999999999999")},
      {400, with(post, "Content-Length : 5")},
      {400, with(post, "Content-Length: 5\r\nTransfer-Encoding: chunked")},
      {400, with(post, "Transfer-Encoding: chunked\r\nContent-Length: 0")},
      {400, with(post, "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked")},
      {400, with(post, "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity")},
      {400, with(post, "Transfer-Encoding : chunked")},
      {400, with(post, "Transfer-Encoding: chunked\x0b")},
      {400, with(post, "Transfer-Encoding:\r\n chunked")},
      {501, with(post, "Transfer-Encoding: xchunked")},
      {501, with(post, "Transfer-Encoding: chunked, identity")},
      {501, with(post, "Transfer-Encoding: gzip, chunked")},
      {501, with(post, "Transfer-Encoding: chunked;q=1")},
      {501, with(post, "Transfer-Encoding: \"chunked\"")},
      {501, with(post, "Transfer-Encoding:")},
      {400, "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"},
      {400, "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nContent-Length: 1\r\n\r\n"},
      {400, "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nTransfer-Encoding: chunked\r\n\r\n"},
      // CVE-2021-40346: a name whose length overflowed eight bits and hid a Content-Length. As a name it is legal, so
      // the two lengths are what gives it away.
      {400, with(post, "Content-Length0" + std::string(255, 'a') + ":\r\nContent-Length: 60\r\nContent-Length: 0")},
      // CVE-2023-25725: an empty name ended the fields early.
      {400, with(get, ":\r\nContent-Length: 5")},
  };
}

TEST(Http1Request, RefusesWhatIsNotStrict) {
  for (const BadRequest& bad : BadRequests()) {
    ForEachArrival(bad.input, [&bad](const Arrival& arrival) {
      SCOPED_TRACE(bad.input.substr(0, 120) + std::string(arrival.how));
      const Outcome outcome = RunRequest(arrival);
      EXPECT_EQ(outcome.kind, Kind::kError);
      EXPECT_EQ(outcome.status, bad.status);
    });
  }
}

TEST(Http1Request, HoldsItsBoundsExactly) {
  const std::string start = "GET / HTTP/1.1\r\nHost: a\r\nX: ";
  const auto head_of = [&start](size_t bytes) {
    return start + std::string(bytes - start.size() - 4, 'x') + "\r\n\r\n";
  };
  EXPECT_EQ(RunRequest({.pieces = {head_of(kHttp1MaxHeadBytes)}}).kind, Kind::kDone);
  EXPECT_EQ(RunRequest({.pieces = {head_of(kHttp1MaxHeadBytes + 1)}}).status, 431);
  const auto line_of = [](size_t bytes) {
    return "GET /" + std::string(bytes - 16, 'x') + " HTTP/1.1\r\nHost: a\r\n\r\n";
  };
  EXPECT_EQ(RunRequest({.pieces = {line_of(kHttp1MaxStartLineBytes)}}).kind, Kind::kDone);
  EXPECT_EQ(RunRequest({.pieces = {line_of(kHttp1MaxStartLineBytes + 1)}}).status, 414);
  std::string fields = "GET / HTTP/1.1\r\nHost: a\r\n";
  for (size_t i = 1; i < kHttp1MaxFields; ++i) fields += "X: y\r\n";
  EXPECT_EQ(RunRequest({.pieces = {fields + "\r\n"}}).kind, Kind::kDone);
  EXPECT_EQ(RunRequest({.pieces = {fields + "X: y\r\n\r\n"}}).status, 431);
}

TEST(Http1Fields, Accessors) {
  const std::string input =
      "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c, WebSocket\r\nX: 1\r\nx: 2\r\nConnection: ,keep-alive,\t upgrade "
      "\r\n\r\n";
  RequestHead head;
  ASSERT_EQ(ParseRequestHead(input, head).kind, Kind::kDone);
  EXPECT_EQ(head.fields.all().size(), 5U);
  EXPECT_EQ(head.fields.Find("X"), "1");
  EXPECT_EQ(head.fields.Count("x"), 2U);
  EXPECT_FALSE(head.fields.Find("Y"));
  EXPECT_TRUE(head.fields.HasToken("connection", "Upgrade"));
  EXPECT_TRUE(head.fields.HasToken("UPGRADE", "websocket"));
  EXPECT_FALSE(head.fields.HasToken("upgrade", "web"));
  EXPECT_FALSE(head.fields.HasToken("upgrade", "h2c, websocket"));
}

TEST(Http1Response, ReadsAndFrames) {
  const struct {
    std::string method;
    std::string input;
    std::string shown;
  } cases[] = {
      {"GET", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "200 \"OK\" 1.1 framing=1,5 persistent"},
      {"GET", "HTTP/1.1 200 \r\n\r\n", "200 \"\" 1.1 framing=3,0 close"},
      {"GET", "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", "200 \"\" 1.1 framing=1,0 persistent"},
      {"GET", "HTTP/1.0 404 Not \xff Found\r\n\r\n", "404 \"Not \xff Found\" 1.0 framing=3,0 close"},
      {"GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "200 \"OK\" 1.1 framing=2,0 persistent"},
      {"HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "200 \"OK\" 1.1 framing=0,0 persistent"},
      {"GET", "HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\n", "204 \"No\" 1.1 framing=0,0 persistent"},
      {"GET", "HTTP/1.1 304 No\r\n\r\n", "304 \"No\" 1.1 framing=0,0 persistent"},
      {"GET", "HTTP/1.1 101 Switching Protocols\r\n\r\n", "101 \"Switching Protocols\" 1.1 framing=0,0 persistent"},
      {"CONNECT", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "200 \"OK\" 1.1 framing=0,0 persistent"},
      {"CONNECT", "HTTP/1.1 407 No\r\nContent-Length: 5\r\n\r\n", "407 \"No\" 1.1 framing=1,5 persistent"},
  };
  for (const auto& c : cases) {
    ForEachArrival(c.input, [&c](const Arrival& arrival) {
      SCOPED_TRACE(c.input + std::string(arrival.how));
      const Outcome outcome = RunResponse(arrival, c.method);
      EXPECT_EQ(outcome.kind, Kind::kDone);
      EXPECT_EQ(outcome.shown, c.shown);
      EXPECT_EQ(outcome.left, arrival.trailing);
    });
  }
}

TEST(Http1Response, Refuses) {
  for (const std::string& line :
       {"HTTP/1.1 20 OK"s, "HTTP/1.1 2000 OK"s, "HTTP/1.1  200 OK"s, "HTTP/1.1 099 x"s, "HTTP/1.1 600 x"s,
        "HTTP/1.1 2x0 OK"s, "HTTP/1.1\t200 OK"s, "HTTP/2.0 200 OK"s, "ICY 200 OK"s, "HTTP/1.1"s, "HTTP/1.1 200 a\x01"s,
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked"s,
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1"s, "HTTP/1.1 200 OK\nX: y"s,
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked"s, "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip"s}) {
    ForEachArrival(line + "\r\n\r\n", [&line](const Arrival& arrival) {
      SCOPED_TRACE(line + std::string(arrival.how));
      EXPECT_EQ(RunResponse(arrival, "GET").kind, Kind::kError);
    });
  }
}

TEST(Http1Builder, WritesWhatIsReadBack) {
  const auto text = HttpHeadBuilder::Request("GET", "/a?b").Add("Host", "a").Add("X-Y", "z; \t\x80").Finish();
  ASSERT_TRUE(text.ok());
  EXPECT_EQ(*text, "GET /a?b HTTP/1.1\r\nHost: a\r\nX-Y: z; \t\x80\r\n\r\n");
  RequestHead head;
  EXPECT_EQ(ParseRequestHead(*text, head).head_bytes, text->size());
  EXPECT_EQ(*HttpHeadBuilder::Response(404, "Not Found").Add("Content-Length", "0").Finish(),
            "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
}

TEST(Http1Builder, RefusesInjection) {
  for (const std::string& value : {"a\r\nB: c"s, "a\n"s, "a\r"s, "a\0b"s, "\x7f"s}) {
    EXPECT_FALSE(HttpHeadBuilder::Request("GET", "/").Add("X", value).Finish().ok());
    EXPECT_FALSE(HttpHeadBuilder::Request("GET", "/").Add(value, "x").Add("X", "y").Finish().ok());
    EXPECT_FALSE(HttpHeadBuilder::Request("GET", "/" + value).Finish().ok());
    EXPECT_FALSE(HttpHeadBuilder::Request("G" + value, "/").Finish().ok());
    EXPECT_FALSE(HttpHeadBuilder::Response(200, value).Finish().ok());
  }
  EXPECT_FALSE(HttpHeadBuilder::Request("GET", "/a b").Finish().ok());
  EXPECT_FALSE(HttpHeadBuilder::Request("", "/").Finish().ok());
  EXPECT_FALSE(HttpHeadBuilder::Response(99, "x").Finish().ok());
  EXPECT_FALSE(HttpHeadBuilder::Response(200, "x").Add("a:b", "c").Finish().ok());
}

constexpr char kKey[] = "dGhlIHNhbXBsZSBub25jZQ==";
constexpr char kAccept[] = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

absl::StatusOr<UpgradeRequest> CheckUpgrade(std::string_view bytes) {
  RequestHead head;
  EXPECT_EQ(ParseRequestHead(bytes, head).kind, Kind::kDone);
  return CheckWebSocketUpgrade(head);
}

TEST(Http1Upgrade, ChecksTheRequest) {
  const std::string start = "GET /chat?x HTTP/1.1\r\nHost: a\r\n";
  const std::string rest = "Upgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\n";
  const std::string key = "Sec-WebSocket-Key: "s + kKey + "\r\n";
  const std::string good = start + rest + key + "Sec-WebSocket-Protocol: secret\r\n\r\n";
  const auto upgrade = CheckUpgrade(good);
  ASSERT_TRUE(upgrade.ok()) << upgrade.status();
  EXPECT_EQ(upgrade->path, "/chat?x");
  EXPECT_EQ(upgrade->host, "a");
  EXPECT_EQ(upgrade->key, kKey);
  EXPECT_EQ(upgrade->protocols, "secret");
  EXPECT_EQ(CheckUpgrade(start + rest + key + "\r\n")->protocols, "");
  const std::vector<std::string> refused = {
      "POST"s + good.substr(3),
      "GET / HTTP/1.0\r\n" + rest + key + "\r\n",
      start + rest + "\r\n",
      start + key + "\r\n",
      start + rest + key + key + "\r\n",
      start + rest + key + "Sec-WebSocket-Version: 13\r\n\r\n",
      start + rest + key + "Content-Length: 1\r\n\r\n",
      start + rest + key + "Transfer-Encoding: chunked\r\n\r\n",
      start + rest + key + "Sec-WebSocket-Protocol: a\r\nSec-WebSocket-Protocol: b\r\n\r\n",
      start + rest + "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=\r\n\r\n",
      start + rest + "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZ===\r\n\r\n",
      start + rest + "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub2 jZQ==\r\n\r\n",
      start + "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" + key + "\r\n",
      start + "Upgrade: h2c\r\nConnection: upgrade\r\nSec-WebSocket-Version: 13\r\n" + key + "\r\n",
      start + "Upgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Version: 8\r\n" + key + "\r\n",
  };
  for (const std::string& bad : refused) {
    EXPECT_FALSE(CheckUpgrade(bad).ok()) << bad;
  }
}

absl::Status CheckAccept(std::string_view bytes, std::string_view offered) {
  ResponseHead head;
  EXPECT_EQ(ParseResponseHead(bytes, "GET", head).kind, Kind::kDone);
  return CheckWebSocketAccept(head, kAccept, offered);
}

TEST(Http1Upgrade, ChecksTheResponse) {
  const std::string start = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n";
  const std::string good = start + "Sec-WebSocket-Accept: " + kAccept + "\r\n";
  EXPECT_TRUE(CheckAccept(good + "\r\n", "").ok());
  EXPECT_TRUE(CheckAccept(good + "\r\n", "token").ok());
  EXPECT_TRUE(CheckAccept(good + "Sec-WebSocket-Protocol: token\r\n\r\n", "token").ok());
  for (const std::string& bad : {
           good + "Sec-WebSocket-Protocol: other\r\n\r\n",
           good + "Sec-WebSocket-Protocol: token\r\nSec-WebSocket-Protocol: token\r\n\r\n",
           good + "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n",
           good + "Sec-WebSocket-Accept: " + kAccept + "\r\n\r\n",
           start + "\r\n",
           start + "Sec-WebSocket-Accept: S3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
           "HTTP/1.1 101 x\r\nConnection: upgrade\r\nSec-WebSocket-Accept: "s + kAccept + "\r\n\r\n",
           "HTTP/1.0"s + good.substr(8) + "\r\n",
       }) {
    EXPECT_EQ(CheckAccept(bad, "token").code(), absl::StatusCode::kDataLoss) << bad;
  }
  EXPECT_FALSE(CheckAccept(good + "Sec-WebSocket-Protocol: token\r\n\r\n", "").ok());
  EXPECT_EQ(CheckAccept("HTTP/1.1 401 x\r\n\r\n", "").code(), absl::StatusCode::kPermissionDenied);
  EXPECT_EQ(CheckAccept("HTTP/1.1 404 x\r\n\r\n", "").code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(CheckAccept("HTTP/1.1 502 x\r\n\r\n", "").code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(CheckAccept("HTTP/1.1 200 x\r\n\r\n", "").code(), absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace tunnel::proto
