#include "net/doh_client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fake_doh_server.h"
#include "run_task.h"

namespace tunnel::net {
namespace {

using proto::DnsQuery;
using proto::DnsRcode;
using proto::DnsType;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

constexpr uint16_t kA = static_cast<uint16_t>(DnsType::kA);

FakeAnswer GoodAnswer(const DnsQuery& query) {
  return {.body = Respond(query, {ARecord(query.question.name, "192.0.2.7")})};
}

class DohClientTest : public testing::Test {
 protected:
  std::unique_ptr<core::Reactor> reactor_ = MakeTestReactor();
  FakeDohConnector connector_{*reactor_};
  std::vector<DohEndpoint> endpoints_;
  DohClientOptions options_;

  void Add(const std::string& host, FakeScript script, const std::string& alpn = "h2") {
    connector_.resolvers[host] = {.alpn = alpn, .script = std::move(script)};
    endpoints_.push_back({.host = host});
  }
  absl::StatusOr<std::vector<uint8_t>> Query(const std::string& name = "Server.Example") {
    DohClient client(*reactor_, connector_, endpoints_, options_);
    return RunTask(*reactor_, client.Query(name, kA));
  }
  std::string Error() {
    const auto response = Query();
    EXPECT_FALSE(response.ok());
    return response.ok() ? "" : std::string(MessageOf(response.status()));
  }
  static void ExpectGood(const absl::StatusOr<std::vector<uint8_t>>& message,
                         const std::string& name = "server.example") {
    ASSERT_TRUE(message.ok()) << message.status();
    const auto response = proto::ParseResponse(*message);
    ASSERT_TRUE(response.ok()) << response.status();
    EXPECT_TRUE(proto::CheckAnswers(*response, name, DnsType::kA).ok());
    EXPECT_EQ(response->answers.size(), 1);
  }
};

TEST(ParseDohUrlTest, TakesUrlsAndTemplates) {
  EXPECT_EQ(*ParseDohUrl("https://dns.example/dns-query"), (DohEndpoint{.host = "dns.example"}));
  EXPECT_EQ(*ParseDohUrl("dns.example"), (DohEndpoint{.host = "dns.example"}));
  EXPECT_EQ(*ParseDohUrl("https://[2001:db8::1]:8443/q?a=b"),
            (DohEndpoint{.host = "2001:db8::1", .port = 8443, .path = "/q?a=b"}));
  EXPECT_EQ(*ParseDohUrl("https://dns.example/x{?dns}"), (DohEndpoint{.host = "dns.example", .path = "/x"}));
  for (const char* bad : {"http://dns.example/", "https://", "https://a:b@dns.example/", "dns.example:0", "a b"}) {
    EXPECT_FALSE(ParseDohUrl(bad).ok()) << bad;
  }
}

// What must hold over either protocol.
class DohProtocolTest : public DohClientTest, public testing::WithParamInterface<std::string> {
 protected:
  void AddOne(FakeScript script) { Add("dns.example", std::move(script), GetParam()); }
  // The error of a single resolver that gives `answer`.
  std::string ErrorOf(const FakeAnswer& answer) {
    AddOne([answer](const DnsQuery&) { return answer; });
    const std::string error = Error();
    EXPECT_THAT(error, HasSubstr("DoH resolver dns.example: "));
    return error;
  }
};
INSTANTIATE_TEST_SUITE_P(Alpn, DohProtocolTest, testing::Values("h2", "http/1.1", ""), [](const auto& param) {
  return param.param.empty() ? std::string("None") : param.param == "h2" ? "H2" : "Http1";
});

TEST_P(DohProtocolTest, Answers) {
  AddOne(GoodAnswer);
  ExpectGood(Query());
}

TEST_P(DohProtocolTest, AnswersByteByByte) {
  connector_.piece = 1;
  AddOne([](const DnsQuery& query) {
    FakeAnswer answer = GoodAnswer(query);
    answer.interim = true;
    return answer;
  });
  ExpectGood(Query());
}

TEST_P(DohProtocolTest, TakesAContentTypeWithParametersInAnyCase) {
  AddOne([](const DnsQuery& query) {
    FakeAnswer answer = GoodAnswer(query);
    answer.content_type = "Application/DNS-Message; x=y";
    return answer;
  });
  ExpectGood(Query());
}

TEST_P(DohProtocolTest, AsksByPostWhereGetIsNotTaken) {
  AddOne(GoodAnswer);
  connector_.resolvers["dns.example"].only_method = "POST";
  DohClient client(*reactor_, connector_, endpoints_, options_);
  ExpectGood(RunTask(*reactor_, client.Query("server.example", kA)));
  const int first = connector_.connections["dns.example"];
  ExpectGood(RunTask(*reactor_, client.Query("server.example", kA)));
  EXPECT_LE(connector_.connections["dns.example"], first + 1) << "GET was tried again";
}

TEST_P(DohProtocolTest, SaysWhatAServerSaysThatTakesNeither) {
  EXPECT_THAT(ErrorOf({.status = 404, .content_type = "text/html"}), HasSubstr("HTTP status 404"));
}

TEST_P(DohProtocolTest, AsksByGetFirst) {
  AddOne(GoodAnswer);
  connector_.resolvers["dns.example"].only_method = "GET";
  ExpectGood(Query());
}

TEST_P(DohProtocolTest, SendsIdZeroAndPads) {
  DnsQuery seen;
  AddOne([&seen](const DnsQuery& query) {
    seen = query;
    return GoodAnswer(query);
  });
  ExpectGood(Query());
  EXPECT_EQ(seen.id, 0);
  EXPECT_TRUE(seen.padded);
  EXPECT_TRUE(seen.recursion_desired);
}

TEST_P(DohProtocolTest, ReturnsNxDomainAsAnAnswer) {
  AddOne([](const DnsQuery& query) { return FakeAnswer{.body = Respond(query, {}, DnsRcode::kNxDomain)}; });
  const auto message = Query();
  ASSERT_TRUE(message.ok()) << message.status();
  EXPECT_EQ(proto::ParseResponse(*message)->rcode, DnsRcode::kNxDomain);
}

TEST_P(DohProtocolTest, ReturnsAnotherRcodeWhenNobodyDoesBetter) {
  AddOne([](const DnsQuery& query) { return FakeAnswer{.body = Respond(query, {}, DnsRcode::kServFail)}; });
  const auto message = Query();
  ASSERT_TRUE(message.ok()) << message.status();
  EXPECT_EQ(proto::ParseResponse(*message)->rcode, DnsRcode::kServFail);
}

TEST_P(DohProtocolTest, RefusesStatus500) {
  EXPECT_THAT(ErrorOf({.status = 500, .content_type = "text/html", .body = {'x'}}), HasSubstr("HTTP status 500"));
}
TEST_P(DohProtocolTest, RefusesRedirects) { EXPECT_THAT(ErrorOf({.status = 302}), HasSubstr("HTTP status 302")); }
TEST_P(DohProtocolTest, RefusesAnotherContentType) {
  EXPECT_THAT(ErrorOf({.content_type = "text/html", .body = {'x'}}), HasSubstr("text/html"));
}
TEST_P(DohProtocolTest, RefusesAnEmptyBody) { EXPECT_THAT(ErrorOf({}), HasSubstr("DNS")); }
TEST_P(DohProtocolTest, RefusesGarbage) {
  EXPECT_THAT(ErrorOf({.body = std::vector<uint8_t>(300, 0xff)}), HasSubstr("DNS"));
}
TEST_P(DohProtocolTest, RefusesAHugeBody) {
  EXPECT_THAT(ErrorOf({.body = std::vector<uint8_t>(kDohMaxBodyBytes + 1)}), HasSubstr("bytes"));
}
TEST_P(DohProtocolTest, RefusesAVeryHugeBody) {
  EXPECT_THAT(ErrorOf({.body = std::vector<uint8_t>(5000000)}), HasSubstr("bytes"));
}

TEST_P(DohProtocolTest, GivesUpOnASilentServer) {
  options_.query_limit = std::chrono::milliseconds(30);
  EXPECT_THAT(ErrorOf({.silent = true}), HasSubstr("no answer within 30 ms"));
}

TEST_P(DohProtocolTest, RefusesEveryTruncation) {
  size_t cut = 0;
  AddOne([&cut](const DnsQuery& query) {
    FakeAnswer answer = GoodAnswer(query);
    answer.body.resize(cut++);
    return answer;
  });
  DohClient client(*reactor_, connector_, endpoints_);
  const size_t whole =
      GoodAnswer({.question = {.name = "server.example", .type = DnsType::kA}, .has_edns = true, .padded = true})
          .body.size();
  size_t refused = 0;
  while (!RunTask(*reactor_, client.Query("server.example", kA)).ok()) ++refused;
  EXPECT_EQ(refused, whole);
}

TEST_P(DohProtocolTest, RefusesTheTruncatedFlag) {
  AddOne([](const DnsQuery& query) {
    FakeAnswer answer = GoodAnswer(query);
    answer.body[2] |= 0x02;
    return answer;
  });
  EXPECT_THAT(Error(), HasSubstr("truncated"));
}

TEST_P(DohProtocolTest, RefusesAnotherId) {
  AddOne([](const DnsQuery& query) {
    FakeAnswer answer = GoodAnswer(query);
    answer.body[1] = 7;
    return answer;
  });
  EXPECT_THAT(Error(), HasSubstr("another id"));
}

TEST_P(DohProtocolTest, RefusesAnotherQuestion) {
  AddOne([](DnsQuery query) {
    query.question.name = "other.example";
    return GoodAnswer(query);
  });
  EXPECT_THAT(Error(), HasSubstr("another question"));
}

TEST_P(DohProtocolTest, RefusesAnotherType) {
  AddOne([](DnsQuery query) {
    query.question.type = DnsType::kAaaa;
    return FakeAnswer{.body = Respond(query, {})};
  });
  EXPECT_THAT(Error(), HasSubstr("another question"));
}

TEST_P(DohProtocolTest, RefusesAQueryForAResponse) {
  AddOne([](const DnsQuery& query) {
    FakeAnswer answer = GoodAnswer(query);
    answer.body[2] &= 0x7f;
    return answer;
  });
  EXPECT_FALSE(Query().ok());
}

TEST_P(DohProtocolTest, EndsWhenItsTaskIsCancelled) {
  AddOne([](const DnsQuery&) { return FakeAnswer{.silent = true}; });
  DohClient client(*reactor_, connector_, endpoints_);
  std::optional<absl::StatusOr<std::vector<uint8_t>>> result;
  core::Scope scope(*reactor_);
  scope.Spawn(StoreResult(client.Query("server.example", kA), &result));
  ASSERT_TRUE(TurnUntil(*reactor_, [&] { return !connector_.servers.empty(); }));
  scope.Cancel();
  ASSERT_TRUE(TurnUntil(*reactor_, [&] { return scope.empty(); }));
  EXPECT_TRUE(absl::IsCancelled(result->status())) << result->status();
}

TEST_P(DohProtocolTest, AnswersManyAtOnce) {
  AddOne(GoodAnswer);
  DohClient client(*reactor_, connector_, endpoints_);
  constexpr size_t kQueries = 50;
  std::vector<std::optional<absl::StatusOr<std::vector<uint8_t>>>> results(kQueries);
  core::Scope scope(*reactor_);
  for (size_t i = 0; i < kQueries; ++i) {
    scope.Spawn(StoreResult(client.Query(fmt::format("n{}.example", i), kA), &results[i]));
  }
  ASSERT_TRUE(TurnUntil(*reactor_, [&] { return scope.empty(); }));
  for (size_t i = 0; i < kQueries; ++i) ExpectGood(*results[i], fmt::format("n{}.example", i));
  EXPECT_EQ(connector_.connections["dns.example"], GetParam() == "h2" ? 1 : static_cast<int>(kQueries));
}

// --- HTTP/1.1 alone ---

class DohHttp1Test : public DohClientTest {
 protected:
  absl::StatusOr<std::vector<uint8_t>> QueryRaw(const std::function<std::string(const std::string& body)>& raw) {
    endpoints_.clear();
    Add(
        "dns.example",
        [raw](const DnsQuery& query) {
          const FakeAnswer good = GoodAnswer(query);
          return FakeAnswer{.raw = raw(std::string(good.body.begin(), good.body.end()))};
        },
        "http/1.1");
    return Query();
  }
};

TEST_F(DohHttp1Test, TakesChunkedAnswers) {
  Add(
      "dns.example",
      [](const DnsQuery& query) {
        FakeAnswer answer = GoodAnswer(query);
        answer.chunked = true;
        return answer;
      },
      "http/1.1");
  ExpectGood(Query());
}

TEST_F(DohHttp1Test, TakesABodyUntilTheEnd) {
  ExpectGood(QueryRaw([](const std::string& body) {
    return "HTTP/1.1 200 OK\r\nContent-Type: application/dns-message\r\n\r\n" + body;
  }));
}

TEST_F(DohHttp1Test, RefusesBrokenAnswers) {
  const std::string head = "HTTP/1.1 200 OK\r\nContent-Type: application/dns-message\r\n";
  const std::vector<std::function<std::string(const std::string&)>> broken = {
      [](const std::string&) { return "garbage\r\n\r\n"; },
      [](const std::string&) { return "HTTP/1.1 200"; },
      [&](const std::string& body) { return head + "Content-Length: 1\r\nContent-Length: 2\r\n\r\n" + body; },
      [&](const std::string& body) { return head + "Content-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n" + body; },
      [&](const std::string& body) {
        return head + fmt::format("Content-Length: {}\r\n\r\n{}", body.size() + 1, body);
      },
      [&](const std::string&) { return head + "Content-Length: 99999999999\r\n\r\n"; },
      [&](const std::string& body) { return head + "Transfer-Encoding: chunked\r\n\r\nzz\r\n" + body; },
      [&](const std::string& body) {
        return head + fmt::format("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{}", body.size(), body);
      },
      [&](const std::string&) { return head + "\r\n" + std::string(kDohMaxBodyBytes + 1, 'x'); },
      [](const std::string&) { return "HTTP/1.1 200 OK\r\nX: " + std::string(200000, 'x'); },
      [](const std::string&) {
        std::string interim;
        for (int i = 0; i < 10000; ++i) interim += "HTTP/1.1 100 Continue\r\n\r\n";
        return interim;
      },
      [](const std::string& body) { return "HTTP/1.1 200 OK\r\n\r\n" + body; },
  };
  for (size_t i = 0; i < broken.size(); ++i) {
    const auto response = QueryRaw(broken[i]);
    EXPECT_FALSE(response.ok()) << i;
    EXPECT_THAT(std::string(MessageOf(response.status())), HasSubstr("DoH resolver dns.example: ")) << i;
  }
}

// --- HTTP/2 alone ---

TEST_F(DohClientTest, SaysGoawayAndEnds) {
  Add("dns.example", GoodAnswer);
  ExpectGood(Query());
  auto& server = static_cast<FakeHttp2Server&>(*connector_.servers.at(0));
  EXPECT_TRUE(TurnUntil(*reactor_, [&] { return server.saw_goaway() && server.saw_end(); }));
}

TEST_F(DohClientTest, FailsWhenTheStreamIsReset) {
  Add("dns.example", [](const DnsQuery& query) {
    FakeAnswer answer = GoodAnswer(query);
    answer.reset = NGHTTP2_ENHANCE_YOUR_CALM;
    return answer;
  });
  EXPECT_THAT(Error(), HasSubstr("ENHANCE_YOUR_CALM"));
}

TEST_F(DohClientTest, FailsOnGoaway) {
  Add("dns.example", [](const DnsQuery&) { return FakeAnswer{.goaway = true}; });
  EXPECT_THAT(Error(), HasSubstr("DoH resolver dns.example: "));
  EXPECT_EQ(connector_.connections["dns.example"], 1);
}

TEST_F(DohClientTest, FailsWhenTheConnectionEnds) {
  Add("dns.example", [](const DnsQuery&) { return FakeAnswer{.silent = true, .close_connection = true}; });
  EXPECT_THAT(Error(), HasSubstr("ended before the answer"));
}

TEST_F(DohClientTest, RefusesAFloodOfHeaders) {
  Add("dns.example", [](const DnsQuery& query) {
    FakeAnswer answer = GoodAnswer(query);
    answer.extra_headers = 300;
    return answer;
  });
  EXPECT_THAT(Error(), HasSubstr("header fields"));
}

TEST_F(DohClientTest, CutsOffAFloodOfSettings) {
  Add("dns.example", [](const DnsQuery&) { return FakeAnswer{.silent = true, .settings_flood = 100000}; });
  EXPECT_THAT(Error(), Not(HasSubstr("no answer within")));
}

TEST_F(DohClientTest, MakesANewConnectionForAKeptOneThatDied) {
  int questions = 0;
  Add("dns.example", [&questions](const DnsQuery& query) {
    FakeAnswer answer = GoodAnswer(query);
    // The second question, on the kept connection, gets a GOAWAY instead.
    answer.goaway = ++questions == 2;
    return answer;
  });
  DohClient client(*reactor_, connector_, endpoints_);
  ExpectGood(RunTask(*reactor_, client.Query("server.example", kA)));
  ExpectGood(RunTask(*reactor_, client.Query("server.example", kA)));
  EXPECT_EQ(connector_.connections["dns.example"], 2);
  EXPECT_EQ(questions, 3);
}

// --- several resolvers ---

TEST_F(DohClientTest, AsksTheNextAtOnceWhenOneFails) {
  options_.hedge_delay = std::chrono::hours(1);
  Add("bad.example", {});
  connector_.resolvers["bad.example"].failure = Unavailable("connect to bad.example: connection refused");
  Add("html.example", [](const DnsQuery&) { return FakeAnswer{.content_type = "text/html"}; });
  Add("lame.example", [](const DnsQuery& query) { return FakeAnswer{.body = Respond(query, {}, DnsRcode::kRefused)}; });
  Add("good.example", GoodAnswer, "http/1.1");
  ExpectGood(Query());
}

TEST_F(DohClientTest, AsksTheNextTooWhenOneIsSlow) {
  options_.hedge_delay = std::chrono::milliseconds(5);
  Add("stuck.example", {});
  connector_.resolvers["stuck.example"].never_connects = true;
  Add("silent.example", [](const DnsQuery&) { return FakeAnswer{.silent = true}; });
  Add("good.example", GoodAnswer);
  ExpectGood(Query());
}

TEST_F(DohClientTest, LeavesTheOthersAloneWhenTheFirstAnswers) {
  options_.hedge_delay = std::chrono::hours(1);
  Add("good.example", GoodAnswer);
  Add("other.example", GoodAnswer);
  ExpectGood(Query());
  EXPECT_EQ(connector_.connections["other.example"], 0);
}

TEST_F(DohClientTest, NamesEveryResolverThatFailed) {
  options_.query_limit = std::chrono::milliseconds(50);
  options_.hedge_delay = std::chrono::milliseconds(1);
  Add("bad.example", {});
  connector_.resolvers["bad.example"].failure = Unavailable("connection refused");
  Add("silent.example", [](const DnsQuery&) { return FakeAnswer{.silent = true}; });
  EXPECT_THAT(Error(), AllOf(HasSubstr("DoH resolver bad.example: connection refused"),
                             HasSubstr("DoH resolver silent.example: no answer within 50 ms")));
}

TEST_F(DohClientTest, LeavesAConnectionOnWhichNothingComes) {
  options_.query_limit = std::chrono::milliseconds(20);
  Add("silent.example", [](const DnsQuery&) { return FakeAnswer{.silent = true}; });
  DohClient client(*reactor_, connector_, endpoints_, options_);
  // The server's SETTINGS answer the first, at most.
  for (int i = 0; i < 3; ++i) EXPECT_FALSE(RunTask(*reactor_, client.Query("server.example", kA)).ok());
  EXPECT_GE(connector_.connections["silent.example"], 2);
}

TEST_F(DohClientTest, SharesTheFailureOfOneDial) {
  Add("bad.example", {});
  connector_.resolvers["bad.example"].failure = Unavailable("connection refused");
  DohClient client(*reactor_, connector_, endpoints_);
  std::vector<std::optional<absl::StatusOr<std::vector<uint8_t>>>> results(5);
  core::Scope scope(*reactor_);
  for (auto& result : results) scope.Spawn(StoreResult(client.Query("server.example", kA), &result));
  ASSERT_TRUE(TurnUntil(*reactor_, [&] { return scope.empty(); }));
  for (auto& result : results) EXPECT_FALSE(result->ok());
  EXPECT_EQ(connector_.connections["bad.example"], 1);
}

TEST_F(DohClientTest, DialsAgainWhenTheTaskThatDialledIsCancelled) {
  Add("dns.example", GoodAnswer);
  connector_.resolvers["dns.example"].never_connects = true;
  DohClient client(*reactor_, connector_, endpoints_);
  std::optional<absl::StatusOr<std::vector<uint8_t>>> first_result;
  std::optional<absl::StatusOr<std::vector<uint8_t>>> second_result;
  core::Scope first(*reactor_);
  core::Scope second(*reactor_);
  first.Spawn(StoreResult(client.Query("server.example", kA), &first_result));
  second.Spawn(StoreResult(client.Query("server.example", kA), &second_result));
  EXPECT_EQ(connector_.connections["dns.example"], 1);
  connector_.resolvers["dns.example"].never_connects = false;
  first.Cancel();
  ASSERT_TRUE(TurnUntil(*reactor_, [&] { return first.empty() && second.empty(); }));
  EXPECT_TRUE(absl::IsCancelled(first_result->status()));
  ExpectGood(*second_result);
}

TEST_F(DohClientTest, RefusesWhatIsNoName) {
  Add("dns.example", GoodAnswer);
  EXPECT_TRUE(absl::IsInvalidArgument(Query("a..b").status()));
  EXPECT_TRUE(absl::IsInvalidArgument(Query(std::string(300, 'a')).status()));
}

TEST_F(DohClientTest, UsesHostPortAndPathOfTheEndpoint) {
  Add("dns.example", GoodAnswer, "http/1.1");
  endpoints_[0].port = 8443;
  endpoints_[0].path = "/p?user=x";
  ExpectGood(Query());
  EXPECT_EQ(connector_.last_port, 8443);
}

}  // namespace
}  // namespace tunnel::net
