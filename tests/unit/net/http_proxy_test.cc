// The HTTP proxy between a client and origins in memory, whatever the sizes in which their bytes arrive.
#include "net/http_proxy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "memory_stream.h"
#include "proto/http1_chunked.h"
#include "run_task.h"

namespace tunnel::net {
namespace {

using core::Slice;
using testing::HasSubstr;
using testing::StartsWith;

// The far end of a stream: keeps what it gets.
struct End final : ByteStream::Handler {
  End(core::Reactor& r, std::unique_ptr<ByteStream> s) : reactor(r), stream(std::move(s)) { stream->SetHandler(this); }
  ~End() = default;

  void Send(std::string_view text) {
    for (size_t at = 0; at < text.size(); at += core::BufferPool::kMaxBlockBytes) {
      stream->Send(reactor.buffers().Copy(text.substr(at, core::BufferPool::kMaxBlockBytes)));
    }
  }
  void OnData(Slice data) override {
    received += data.text();
    if (on_data != nullptr) on_data();
  }
  void OnEnd() override { ended = true; }
  void OnDrained() override {}
  void OnDead(absl::Status) override { dead = true; }

  core::Reactor& reactor;
  std::unique_ptr<ByteStream> stream;
  std::string received;
  bool ended = false;
  bool dead = false;
  std::function<void()> on_data;
};

class FakeOpener final : public StreamOpener {
 public:
  FakeOpener(core::Reactor& reactor, size_t piece) : reactor_(reactor), piece_(piece) {}

  core::Task<absl::StatusOr<std::unique_ptr<ByteStream>>> Open(proto::Target target, Slice first) override {
    targets.push_back(proto::ToString(target));
    if (!failure.ok()) co_return failure;
    auto [ours, theirs] = MemoryStream::Pair(reactor_, piece_);
    ours->Send(std::move(first));
    origins.push_back(std::make_unique<End>(reactor_, std::move(theirs)));
    co_return std::unique_ptr<ByteStream>(std::move(ours));
  }

  absl::Status failure;
  std::vector<std::string> targets;
  std::vector<std::unique_ptr<End>> origins;

 private:
  core::Reactor& reactor_;
  const size_t piece_;
};

constexpr size_t kWhole = SIZE_MAX;

// One connection of a client to the proxy.
class Bench {
 public:
  explicit Bench(size_t piece = kWhole, const std::string& password = "")
      : reactor_(MakeTestReactor()), relays_(*reactor_), opener(*reactor_, piece), scope_(*reactor_) {
    if (!password.empty()) spec_.user = "user";
    spec_.password = password;
    spec_.description = "proxy";
    auto [ours, theirs] = MemoryStream::Pair(*reactor_, piece);
    client = std::make_unique<End>(*reactor_, std::move(theirs));
    scope_.Spawn(ServeHttpProxy({.reactor = *reactor_, .spec = spec_, .opener = opener, .relays = relays_},
                                std::move(ours), {}, false));
  }
  ~Bench() {
    scope_.Cancel();
    EXPECT_TRUE(TurnUntil(*reactor_, [&] { return scope_.empty(); }));
    opener.origins.clear();
    client.reset();
  }

  [[nodiscard]] bool Until(const std::function<bool()>& done) { return TurnUntil(*reactor_, done); }
  [[nodiscard]] bool OriginHas(size_t number, std::string_view text) {
    return Until([&] { return opener.origins.size() > number && opener.origins[number]->received == text; });
  }
  [[nodiscard]] bool ClientHas(std::string_view text) {
    return Until([&] { return client->received == text; });
  }
  [[nodiscard]] bool ClientClosed() {
    return Until([&] { return client->ended || client->dead; });
  }
  End& origin(size_t number = 0) { return *opener.origins[number]; }
  size_t relays() { return relays_.size(); }

 private:
  std::unique_ptr<core::Reactor> reactor_;
  ListenSpec spec_;
  RelaySet relays_;

 public:
  FakeOpener opener;
  std::unique_ptr<End> client;

 private:
  core::Scope scope_;
};

const std::string kGet = "GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n";
const std::string kGetSent = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
const std::string kOk = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

std::string Post(const std::string& fields, const std::string& body) {
  return "POST http://a.test/ HTTP/1.1\r\nHost: a.test\r\n" + fields + "\r\n" + body;
}
std::string PostSent(const std::string& fields, const std::string& body) {
  return "POST / HTTP/1.1\r\nHost: a.test\r\n" + fields + "\r\n" + body;
}

struct ExchangeCase {
  const char* what;
  std::string request;
  std::string sent;
  std::string answer;
  std::string passed_on;
  bool client_closed = false;
  bool origin_closes = false;
};

TEST(HttpProxy, Exchanges) {
  const std::string chunks = "Transfer-Encoding: chunked\r\n";
  const std::string http10 = "GET http://a.test/ HTTP/1.0\r\n\r\n";
  const std::string closing = "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n";
  const std::vector<ExchangeCase> cases = {
      {"GET", kGet, kGetSent, kOk, kOk},
      {"POST", Post("Content-Length: 5\r\n", "hello"), PostSent("Content-Length: 5\r\n", "hello"), kOk, kOk},
      {"an empty body", Post("Content-Length: 0\r\n", ""), PostSent("Content-Length: 0\r\n", ""), kOk, kOk},
      {"HEAD", "HEAD http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n", "HEAD / HTTP/1.1\r\nHost: a.test\r\n\r\n",
       "HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\n"},
      {"204", kGet, kGetSent, "HTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.1 204 No Content\r\n\r\n"},
      {"304", kGet, kGetSent, "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
       "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n"},
      {"interim answers", kGet, kGetSent, "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 102 Wait\r\n\r\n" + kOk,
       "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 102 Wait\r\n\r\n" + kOk},
      {"an answer until the end", kGet, kGetSent, "HTTP/1.1 200 OK\r\n\r\nsome text",
       "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nsome text", true, true},
      {"an HTTP/1.0 client", http10, closing, kOk,
       "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok", true},
      {"no interim answers for HTTP/1.0", http10, closing, "HTTP/1.1 103 Early Hints\r\n\r\n" + kOk,
       "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok", true},
      {"no chunks for HTTP/1.0", http10, closing, "HTTP/1.1 200 OK\r\n" + chunks + "\r\n2\r\nok\r\n0\r\nX: 1\r\n\r\n",
       "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nok", true},
      {"Connection: close", "GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n", closing, kOk,
       "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok", true},
      {"a malformed answer", kGet, kGetSent, "nonsense\n", "HTTP/1.1 502 *", true},
      {"two lengths in the answer", kGet, kGetSent, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
       "HTTP/1.1 502 *", true},
      {"no answer", kGet, kGetSent, "", "HTTP/1.1 502 *", true, true},
      {"half an answer", kGet, kGetSent, "HTTP/1.1 200 OK\r\nCont", "HTTP/1.1 502 *", true, true},
      {"a body cut short", kGet, kGetSent, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab",
       "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab", true, true},
      {"bad chunks in the answer", kGet, kGetSent, "HTTP/1.1 200 OK\r\n" + chunks + "\r\nzz\r\n",
       "HTTP/1.1 200 OK\r\n" + chunks + "\r\n", true},
      {"101 unasked", kGet, kGetSent, "HTTP/1.1 101 Go\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n", "HTTP/1.1 502 *",
       true},
      {"an answer before the request's end", Post("Content-Length: 100\r\n", "hello"),
       PostSent("Content-Length: 100\r\n", "hello"), kOk,
       "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok", true},
      {"Expect refused", Post("Content-Length: 100\r\nExpect: 100-continue\r\n", ""),
       PostSent("Content-Length: 100\r\nExpect: 100-continue\r\n", ""), "HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n",
       "HTTP/1.1 417 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", true},
  };
  for (const size_t piece : {kWhole, size_t{1}, size_t{7}}) {
    for (const ExchangeCase& c : cases) {
      SCOPED_TRACE(std::string(c.what) + ", pieces of " + std::to_string(piece));
      Bench bench(piece);
      bench.client->Send(c.request);
      ASSERT_TRUE(bench.OriginHas(0, c.sent)) << (bench.opener.origins.empty() ? "" : bench.origin().received);
      bench.origin().Send(c.answer);
      if (c.origin_closes) bench.origin().stream->CloseAfterSend(std::chrono::seconds(1));
      if (c.passed_on.ends_with("*")) {
        ASSERT_TRUE(bench.ClientClosed());
        EXPECT_THAT(bench.client->received, StartsWith(c.passed_on.substr(0, c.passed_on.size() - 1)));
      } else {
        EXPECT_TRUE(bench.ClientHas(c.passed_on)) << bench.client->received;
        if (c.client_closed) {
          EXPECT_TRUE(bench.ClientClosed());
        }
      }
      if (!c.client_closed) {
        // The connection serves another request, on the same stream where the origin did not close it.
        bench.client->Send(kGet);
        EXPECT_TRUE(bench.OriginHas(0, c.sent + kGetSent));
        EXPECT_EQ(bench.opener.targets, std::vector<std::string>{"a.test:80"});
      }
    }
  }
}

TEST(HttpProxy, ChunksAreCheckedAndWrittenAnew) {
  Bench bench;
  bench.client->Send(Post("Transfer-Encoding: chunked\r\n",
                          "005;ext=1\r\nhello\r\n1\r\n,\r\n0\r\nSum: 1\r\nContent-Length: 3\r\n\r\n"));
  EXPECT_TRUE(
      bench.OriginHas(0, PostSent("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n1\r\n,\r\n0\r\nSum: 1\r\n\r\n")));
  bench.origin().Send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nT: 1\r\nT: 2\r\n\r\n");
  EXPECT_TRUE(
      bench.ClientHas("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nT: 1\r\nT: 2\r\n\r\n"));
}

TEST(HttpProxy, BadBodiesOfRequests) {
  for (const std::string body : {"5\nhello\r\n", "5 \r\nhello\r\n", "ffffffffffffffff1\r\n", "5\r\nhelloX", "-1\r\n",
                                 "\r\n", "0x5\r\nhello\r\n", "5\r\nhello\r\n0\r\nbad name: 1\r\n\r\n"}) {
    for (const size_t piece : {kWhole, size_t{1}}) {
      SCOPED_TRACE(body);
      Bench bench(piece);
      bench.client->Send(Post("Transfer-Encoding: chunked\r\n", body) + kGet);
      ASSERT_TRUE(bench.ClientClosed());
      EXPECT_THAT(bench.client->received, StartsWith("HTTP/1.1 400 Bad Request\r\n"));
      EXPECT_THAT(bench.client->received, HasSubstr("Connection: close\r\n"));
      ASSERT_EQ(bench.opener.origins.size(), 1);
      EXPECT_TRUE(bench.Until([&] { return bench.origin().dead; })) << "the origin must not take it for whole";
      EXPECT_THAT(bench.origin().received, testing::Not(HasSubstr("GET")));
    }
  }
}

TEST(HttpProxy, RefusedRequests) {
  const struct {
    std::string request;
    std::string status;
  } cases[] = {
      {"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n", "400"},
      {"OPTIONS * HTTP/1.1\r\nHost: a.test\r\n\r\n", "400"},
      {"GET http://a.test/ HTTP/1.1\r\nHost: b.test\r\n\r\n", "400"},
      {"GET http://a.test/ HTTP/1.1\r\n\r\n", "400"},
      {"GET http://a.test/ HTTP/1.1\nHost: a.test\r\n\r\n", "400"},
      {"GET http://a.test/ HTTP/1.1\r\nHost : a.test\r\n\r\n", "400"},
      {"GET http://u:p@a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n", "400"},
      {Post("Content-Length: 1\r\nContent-Length: 1\r\n", "x"), "400"},
      {Post("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n", "x"), "400"},
      {Post("Content-Length: +1\r\n", "x"), "400"},
      {Post("Content-Length: 99999999999999999999\r\n", "x"), "400"},
      {Post("Transfer-Encoding: gzip, chunked\r\n", "x"), "501"},
      {Post("Transfer-Encoding: \vchunked\r\n", "x"), "400"},
      {"CONNECT a.test HTTP/1.1\r\nHost: a.test\r\n\r\n", "400"},
      {"GET https://a.test/ HTTP/1.0\r\n\r\n", "501"},
      {"GET http://a.test/ HTTP/2.0\r\nHost: a.test\r\n\r\n", "505"},
      {"GET http://a.test/" + std::string(9000, 'a'), "414"},
      {"GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\nX: " + std::string(17000, 'a'), "431"},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.request.substr(0, 100));
    Bench bench;
    bench.client->Send(c.request + kGet);
    ASSERT_TRUE(bench.ClientClosed());
    EXPECT_THAT(bench.client->received, StartsWith("HTTP/1.1 " + c.status + " "));
    EXPECT_THAT(bench.client->received, HasSubstr("Connection: close\r\n"));
    EXPECT_EQ(bench.client->received.find("\nHTTP/1.1 "), std::string::npos) << "nothing behind it was read";
    EXPECT_TRUE(bench.opener.targets.empty());
  }
}

TEST(HttpProxy, EachRequestGoesWhereItSays) {
  Bench bench;
  const std::string other = "GET http://b.test:81/ HTTP/1.1\r\nHost: b.test:81\r\n\r\n";
  bench.client->Send(kGet + other + kGet);  // pipelined
  ASSERT_TRUE(bench.OriginHas(0, kGetSent));
  EXPECT_EQ(bench.opener.origins.size(), 1) << "one at a time";
  bench.origin(0).Send(kOk);
  ASSERT_TRUE(bench.OriginHas(1, "GET / HTTP/1.1\r\nHost: b.test:81\r\n\r\n"));
  bench.origin(1).Send(kOk);
  ASSERT_TRUE(bench.OriginHas(2, kGetSent));
  bench.origin(2).Send(kOk);
  EXPECT_TRUE(bench.ClientHas(kOk + kOk + kOk));
  EXPECT_EQ(bench.opener.targets, (std::vector<std::string>{"a.test:80", "b.test:81", "a.test:80"}));
}

TEST(HttpProxy, AKeptStreamThatDiedIsReplaced) {
  Bench bench;
  bench.client->Send(kGet);
  ASSERT_TRUE(bench.OriginHas(0, kGetSent));
  // Dies when the next request comes.
  bench.origin().on_data = [&] {
    if (bench.origin(0).received.size() > kGetSent.size()) bench.origin(0).stream->Abort();
  };
  bench.origin().Send(kOk);
  ASSERT_TRUE(bench.ClientHas(kOk));
  bench.client->Send(kGet);
  ASSERT_TRUE(bench.OriginHas(1, kGetSent));
  bench.origin(1).Send(kOk);
  EXPECT_TRUE(bench.ClientHas(kOk + kOk));
}

TEST(HttpProxy, ARequestThatMustNotBeSentTwiceIsNot) {
  Bench bench;
  bench.client->Send(kGet);
  ASSERT_TRUE(bench.OriginHas(0, kGetSent));
  bench.origin().on_data = [&] {
    if (bench.origin(0).received.size() > kGetSent.size()) bench.origin(0).stream->Abort();
  };
  bench.origin().Send(kOk);
  ASSERT_TRUE(bench.ClientHas(kOk));
  bench.client->Send(Post("Content-Length: 0\r\n", ""));
  EXPECT_TRUE(bench.ClientClosed());
  EXPECT_EQ(bench.client->received, kOk);
  EXPECT_EQ(bench.opener.origins.size(), 1);
}

TEST(HttpProxy, AKeptStreamThatSpeaksUnaskedIsNotUsed) {
  Bench bench;
  bench.client->Send(kGet);
  ASSERT_TRUE(bench.OriginHas(0, kGetSent));
  bench.origin().Send(kOk + "HTTP/1.1 200 Poison\r\nContent-Length: 0\r\n\r\n");
  ASSERT_TRUE(bench.ClientHas(kOk));
  bench.client->Send(kGet);
  ASSERT_TRUE(bench.OriginHas(1, kGetSent));
}

TEST(HttpProxy, ContinueGoesThrough) {
  Bench bench;
  bench.client->Send(Post("Content-Length: 5\r\nExpect: 100-continue\r\n", ""));
  const std::string head = PostSent("Content-Length: 5\r\nExpect: 100-continue\r\n", "");
  ASSERT_TRUE(bench.OriginHas(0, head));
  bench.origin().Send("HTTP/1.1 100 Continue\r\n\r\n");
  ASSERT_TRUE(bench.ClientHas("HTTP/1.1 100 Continue\r\n\r\n"));
  bench.client->Send("hello");
  ASSERT_TRUE(bench.OriginHas(0, head + "hello"));
  bench.origin().Send(kOk);
  EXPECT_TRUE(bench.ClientHas("HTTP/1.1 100 Continue\r\n\r\n" + kOk));
}

TEST(HttpProxy, AnUpgradeBecomesARelay) {
  Bench bench(3);
  bench.client->Send(
      "GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nearly");
  ASSERT_TRUE(bench.OriginHas(0, "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"));
  const std::string go = "HTTP/1.1 101 Go\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";
  bench.origin().received.clear();
  bench.origin().Send(go + "\r\n\x01\x02");
  EXPECT_TRUE(bench.ClientHas(go + "\r\n\x01\x02"));
  EXPECT_TRUE(bench.OriginHas(0, "early"));
  bench.client->Send("more");
  EXPECT_TRUE(bench.OriginHas(0, "earlymore"));
  EXPECT_EQ(bench.relays(), 1);
}

TEST(HttpProxy, ConnectBecomesARelay) {
  Bench bench;
  bench.client->Send(kGet);
  ASSERT_TRUE(bench.OriginHas(0, kGetSent));
  bench.origin().Send(kOk);
  ASSERT_TRUE(bench.ClientHas(kOk));
  bench.client->received.clear();
  bench.client->Send("CONNECT [::1]:443 HTTP/1.1\r\nHost: [::1]:443\r\n\r\nhello");
  ASSERT_TRUE(bench.OriginHas(1, "hello"));
  EXPECT_TRUE(bench.ClientHas("HTTP/1.1 200 Connection established\r\n\r\n"));
  EXPECT_EQ(bench.opener.targets[1], "[::1]:443");
  EXPECT_EQ(bench.relays(), 1);
}

TEST(HttpProxy, Credentials) {
  Bench bench(kWhole, "pass");
  const auto with = [](const std::string& field) {
    return "GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n" + field + "\r\n";
  };
  for (const std::string field :
       {"", "Proxy-Authorization: Basic eDp5\r\n", "Proxy-Authorization: Bearer dXNlcjpwYXNz\r\n",
        "Proxy-Authorization: Basic dXNlcjpwYXNz\r\nProxy-Authorization: Basic dXNlcjpwYXNz\r\n",
        "Authorization: Basic dXNlcjpwYXNz\r\n", "Proxy-Authorization: Basic %%%%\r\n"}) {
    bench.client->received.clear();
    bench.client->Send(with(field));
    ASSERT_TRUE(bench.Until([&] { return bench.client->received.ends_with("password\n"); })) << field;
    EXPECT_THAT(bench.client->received, StartsWith("HTTP/1.1 407 "));
    EXPECT_THAT(bench.client->received, HasSubstr("Proxy-Authenticate: Basic realm="));
    EXPECT_FALSE(bench.client->ended) << "the client may ask again";
  }
  EXPECT_TRUE(bench.opener.targets.empty());
  bench.client->Send(with("proxy-authorization: basic  dXNlcjpwYXNz\r\n"));
  EXPECT_TRUE(bench.OriginHas(0, kGetSent));
}

TEST(HttpProxy, FailuresToOpen) {
  Bench bench;
  bench.opener.failure = DeadlineExceeded("silence");
  bench.client->Send(kGet);
  ASSERT_TRUE(bench.Until([&] { return bench.client->received.ends_with("in time\n"); }));
  EXPECT_THAT(bench.client->received, StartsWith("HTTP/1.1 504 "));
  bench.opener.failure = PermissionDenied("policy");
  bench.client->received.clear();
  bench.client->Send(Post("Content-Length: 100\r\n", "x"));
  ASSERT_TRUE(bench.ClientClosed());
  EXPECT_THAT(bench.client->received, StartsWith("HTTP/1.1 403 "));
}

TEST(HttpProxy, AClientThatHasFinishedSendingGetsItsAnswers) {
  Bench bench;
  bench.client->Send(kGet + kGet);
  bench.client->stream->FinishSend();
  ASSERT_TRUE(bench.OriginHas(0, kGetSent));
  bench.origin().Send(kOk);
  ASSERT_TRUE(bench.OriginHas(0, kGetSent + kGetSent));
  bench.origin().Send(kOk);
  EXPECT_TRUE(bench.ClientHas(kOk + kOk));
  EXPECT_TRUE(bench.ClientClosed());
  EXPECT_FALSE(bench.client->dead);
}

TEST(HttpProxy, AClientThatLeavesTakesTheOriginAlong) {
  Bench bench;
  bench.client->Send(kGet);
  ASSERT_TRUE(bench.OriginHas(0, kGetSent));
  bench.client->stream->Abort();
  EXPECT_TRUE(bench.Until([&] { return bench.origin().dead; }));
}

TEST(HttpProxy, ARequestCutShort) {
  Bench bench;
  bench.client->Send(Post("Content-Length: 100\r\n", "x"));
  ASSERT_TRUE(bench.OriginHas(0, PostSent("Content-Length: 100\r\n", "x")));
  bench.client->stream->FinishSend();
  EXPECT_TRUE(bench.Until([&] { return bench.origin().dead; }));
  EXPECT_TRUE(bench.ClientClosed());
}

TEST(HttpProxy, TooManyInterimAnswers) {
  Bench bench;
  bench.client->Send(kGet);
  ASSERT_TRUE(bench.OriginHas(0, kGetSent));
  for (int i = 0; i < 100; ++i) bench.origin().Send("HTTP/1.1 102 Wait\r\n\r\n");
  ASSERT_TRUE(bench.ClientClosed());
  EXPECT_THAT(bench.client->received, HasSubstr("HTTP/1.1 502 "));
}

// What a whole body holds; nothing of one that is not whole.
std::string BodyOf(std::string_view text, bool chunked) {
  if (!chunked) return std::string(text);
  proto::ChunkedDecoder decoder;
  std::string body;
  for (;;) {
    const proto::ChunkedDecoder::Step step = decoder.Next(text);
    body += step.data;
    text.remove_prefix(step.consumed);
    if (step.kind == proto::ChunkedDecoder::Step::Kind::kDone) return body;
    if (step.kind != proto::ChunkedDecoder::Step::Kind::kData) return "";
  }
}

// Neither side reads: what is sent stays with its sender.
TEST(HttpProxy, BodiesWaitForTheirReaders) {
  for (const bool chunked : {false, true}) {
    Bench bench;
    constexpr size_t kChunks = 64;
    const std::string chunk(size_t{64} * 1024, 'x');
    bench.client->Send(Post(chunked ? "Transfer-Encoding: chunked\r\n"
                                    : "Content-Length: " + std::to_string(kChunks * chunk.size()) + "\r\n",
                            ""));
    ASSERT_TRUE(bench.Until([&] { return bench.opener.origins.size() == 1 && !bench.origin().received.empty(); }));
    const size_t head = bench.origin().received.size();
    bench.origin().stream->PauseReceive();
    for (size_t i = 0; i < kChunks; ++i) bench.client->Send(chunked ? "10000\r\n" + chunk + "\r\n" : chunk);
    if (chunked) bench.client->Send("0\r\n\r\n");
    size_t queued = 0;
    // Stands still when nothing moves for a while.
    for (int still = 0; still < 50; ++still) {
      const size_t before = queued;
      (void)bench.Until([&, turns = 0]() mutable { return ++turns > 3; });
      queued = bench.client->stream->queued_bytes();
      if (queued != before) still = 0;
    }
    EXPECT_GT(queued, (kChunks - 6) * chunk.size());
    bench.origin().stream->ResumeReceive();
    const auto body = [&] { return BodyOf(bench.origin().received.substr(head), chunked); };
    EXPECT_TRUE(bench.Until([&] { return bench.origin().received.size() >= head + kChunks * chunk.size(); }));
    EXPECT_TRUE(bench.Until([&] { return body().size() == kChunks * chunk.size(); })) << body().size();
  }
}

}  // namespace
}  // namespace tunnel::net
