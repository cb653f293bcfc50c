#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "core/status.h"
#include "proto/dns_message.h"
#include "proto/dns_name.h"
#include "tests/unit/as_bytes.h"
#include "tests/unit/proto/guarded_input.h"

namespace tunnel::proto {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using std::string_literals::operator""s;

std::string Text(std::span<const uint8_t> bytes) { return {bytes.begin(), bytes.end()}; }

std::string U16(size_t value) { return {static_cast<char>(value >> 8), static_cast<char>(value)}; }

// --- names ---

TEST(DnsName, WritesAndReads) {
  const struct {
    std::string text;
    std::string wire;
    std::string canonical;
  } cases[] = {
      {".", "\0"s, "."},
      {"example.com", "\7example\3com\0"s, "example.com"},
      {"EXAMPLE.Com.", "\7example\3com\0"s, "example.com"},
      {"_8443._https.a", "\5_8443\6_https\1a\0"s, "_8443._https.a"},
      {"a\\.b.c", "\3a.b\1c\0"s, "a\\.b.c"},
      {"\\000\\255\\032\\\\", "\4\0\xff \\\0"s, "\\000\\255\\032\\\\"},
      {"\\@\\\"x", "\3@\"x\0"s, "\\@\\\"x"},
      {std::string(63, 'a'), "\x3f"s + std::string(63, 'a') + "\0"s, std::string(63, 'a')},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.text);
    std::vector<uint8_t> wire;
    ASSERT_TRUE(AppendDnsName(c.text, wire).ok());
    EXPECT_EQ(Text(wire), c.wire);
    size_t offset = 0;
    const auto read = ReadDnsName(wire, offset);
    ASSERT_TRUE(read.ok());
    EXPECT_EQ(*read, c.canonical);
    EXPECT_EQ(offset, wire.size());
    EXPECT_EQ(*CanonicalDnsName(c.text), c.canonical);
  }
}

TEST(DnsName, HoldsItsBounds) {
  const std::string label = std::string(63, 'a') + ".";
  std::vector<uint8_t> wire;
  EXPECT_TRUE(AppendDnsName(label + label + label + std::string(61, 'a'), wire).ok());
  EXPECT_EQ(wire.size(), 255U);
  size_t offset = 0;
  EXPECT_TRUE(ReadDnsName(wire, offset).ok());
  const std::vector<std::string> refused = {
      ""s,    ".."s,    ".a"s,     "a..b"s,  "a.."s, std::string(64, 'a'), label + label + label + std::string(62, 'a'),
      "a\\"s, "a\\12"s, "a\\256"s, "a\\1x2"s};
  for (const std::string& bad : refused) {
    EXPECT_FALSE(AppendDnsName(bad, wire).ok()) << bad;
  }
  EXPECT_EQ(wire.size(), 255U);
}

TEST(DnsName, RefusesHostileWire) {
  const struct {
    const char* what;
    std::string message;
    size_t offset;
  } cases[] = {
      {"empty", "", 0},
      {"cut label", "\3ab", 0},
      {"no root", "\1a", 0},
      {"cut pointer", "\0\xc0"s, 1},
      {"pointer to itself", "\xc0\0"s, 0},
      {"pointer to its own labels", "\1a\xc0\0"s, 0},
      {"two pointers at each other", "\xc0\2\xc0\0"s, 2},
      {"forward pointer", "\xc0\3\0\0"s, 0},
      {"pointer past the end", "\0\xff\xff"s, 1},
      {"into its labels through a pointer", "\1a\xc0\0\xc0\2"s, 4},
      {"label type 01", "\x41"s + std::string(70, 'a') + "\0"s, 0},
      {"label type 10", "\x80\0"s, 0},
      {"64 byte label", "\x40"s + std::string(64, 'a') + "\0"s, 0},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.what);
    const ExactBytes exact(c.message);
    size_t offset = c.offset;
    EXPECT_FALSE(ReadDnsName(AsBytes(exact.view()), offset).ok());
    EXPECT_EQ(offset, c.offset);
  }
  // A name that grows past 255 bytes through pointers, each of them backward.
  std::string growing = "\x3f"s + std::string(63, 'a') + "\0"s;
  size_t last = 0;
  for (int i = 0; i < 4; ++i) {
    const size_t start = growing.size();
    growing += "\x3f"s + std::string(63, 'b') + "\xc0" + static_cast<char>(last);
    last = start;
  }
  size_t offset = last;
  EXPECT_FALSE(ReadDnsName(AsBytes(growing), offset).ok());
  // More pointers than any name needs.
  std::string chain = "\0"s;
  for (size_t i = 0; i < 40; ++i) chain += "\xc0"s + static_cast<char>(i == 0 ? 0 : i * 2 - 1);
  offset = chain.size() - 2;
  EXPECT_THAT(MessageOf(ReadDnsName(AsBytes(chain), offset).status()), HasSubstr("pointers"));
}

TEST(DnsName, FollowsPointers) {
  const std::string message = "\3com\0\7example\xc0\0\1a\xc0\5!"s;
  size_t offset = 15;
  EXPECT_EQ(*ReadDnsName(AsBytes(message), offset), "a.example.com");
  EXPECT_EQ(offset, 19U);
  offset = 15;
  EXPECT_FALSE(ReadDnsName(AsBytes(message), offset, NameCompression::kForbidden).ok());
}

// --- HTTPS records ---

std::string Param(size_t key, const std::string& value) { return U16(key) + U16(value.size()) + value; }

const std::string kService = "\0\1\0"s;
const std::string kEch = "\0\4\xfe\x0d\0\0"s;

TEST(HttpsRecord, ReadsAndWritesEveryParameter) {
  const std::string rdata = "\0\x10\3foo\7example\3org\0"s + Param(0, "\0\1\0\4"s) + Param(1, "\2h2\x08http/1.1") +
                            Param(2, "") + Param(3, "\x20\xfb") + Param(4, "\xc0\0\2\1\x7f\0\0\1"s) + Param(5, kEch) +
                            Param(6, "\x20\1\x0d\xb8"s + std::string(11, '\0') + "\1") + Param(667, "he\"l\\\xff"s);
  const auto record = ParseHttpsRecord(AsBytes(ExactBytes(rdata).view()));
  ASSERT_TRUE(record.ok()) << record.status();
  EXPECT_EQ(record->priority, 16);
  EXPECT_EQ(record->target, "foo.example.org");
  EXPECT_THAT(record->mandatory, ElementsAre(1, 4));
  EXPECT_THAT(record->alpn, ElementsAre("h2", "http/1.1"));
  EXPECT_TRUE(record->no_default_alpn);
  EXPECT_EQ(record->port, 8443);
  EXPECT_THAT(record->ipv4hint, ElementsAre(*ParseIpAddress("192.0.2.1"), *ParseIpAddress("127.0.0.1")));
  EXPECT_EQ(Text(record->ech), kEch);
  EXPECT_THAT(record->ipv6hint, ElementsAre(*ParseIpAddress("2001:db8::1")));
  ASSERT_EQ(record->unknown.size(), 1U);
  EXPECT_TRUE(record->IsUsable());
  const auto encoded = EncodeHttpsRecord(*record);
  ASSERT_TRUE(encoded.ok()) << encoded.status();
  EXPECT_EQ(Text(*encoded), rdata);
  EXPECT_EQ(FormatHttpsRecord(*record, "AAT+DQAA"),
            "16 foo.example.org. mandatory=alpn,ipv4hint alpn=\"h2,http/1.1\" no-default-alpn port=8443 "
            "ipv4hint=192.0.2.1,127.0.0.1 ech=\"AAT+DQAA\" ipv6hint=2001:db8::1 key667=\"he\\\"l\\\\\\255\"");
}

TEST(HttpsRecord, FormatsAlpnWithCommas) {
  // RFC 9460 D.2, figure 10.
  const HttpsRecord record{.priority = 16, .target = "foo.example.org", .alpn = {"f\\oo,bar", "h2"}};
  EXPECT_EQ(FormatHttpsRecord(record, ""), "16 foo.example.org. alpn=\"f\\\\\\\\oo\\\\,bar,h2\"");
  EXPECT_EQ(FormatHttpsRecord({.priority = 0, .target = "a.example"}, ""), "0 a.example.");
  EXPECT_EQ(FormatHttpsRecord({.priority = 1}, ""), "1 .");
}

TEST(HttpsRecord, Usable) {
  EXPECT_TRUE(ParseHttpsRecord(AsBytes(kService))->IsUsable());
  EXPECT_FALSE(ParseHttpsRecord(AsBytes(kService + Param(0, "\0\7"s) + Param(7, "x")))->IsUsable());
  EXPECT_TRUE(ParseHttpsRecord(AsBytes(kService + Param(7, "x")))->IsUsable());
  EXPECT_FALSE(ParseHttpsRecord(AsBytes(kService + Param(3, "\0\0"s)))->IsUsable());
  // AliasMode ignores its parameters, whatever they are.
  const auto alias = ParseHttpsRecord(AsBytes("\0\0\1a\0garbage"s));
  ASSERT_TRUE(alias.ok());
  EXPECT_TRUE(alias->IsAlias());
  EXPECT_FALSE(alias->IsUsable());
  EXPECT_EQ(*alias, (HttpsRecord{.priority = 0, .target = "a"}));
}

TEST(HttpsRecord, RefusesMalformed) {
  const struct {
    const char* what;
    std::string rdata;
  } cases[] = {
      {"empty", ""},
      {"no target", "\0\1"s},
      {"cut target", "\0\1\3ab"s},
      {"compressed target", "\0\1\1a\xc0\2"s},
      {"cut key", kService + "\0"s},
      {"cut length", kService + "\0\1\0"s},
      {"cut value", kService + "\0\1\0\3\1h"s},
      {"duplicate key", kService + Param(3, "\1\xbb") + Param(3, "\1\xbb")},
      {"keys out of order", kService + Param(3, "\1\xbb") + Param(1, "\2h2")},
      {"empty mandatory", kService + Param(0, "")},
      {"odd mandatory", kService + Param(0, "\0\3\0"s) + Param(3, "\1\xbb")},
      {"mandatory names itself", kService + Param(0, "\0\0"s)},
      {"mandatory names itself later", kService + Param(0, "\0\3\0\0"s) + Param(3, "\1\xbb")},
      {"mandatory names twice", kService + Param(0, "\0\3\0\3"s) + Param(3, "\1\xbb")},
      {"mandatory out of order", kService + Param(0, "\0\4\0\3"s) + Param(3, "\1\xbb") + Param(4, "\1\2\3\4")},
      {"mandatory names what is missing", kService + Param(0, "\0\5"s)},
      {"mandatory names an unknown key that is missing", kService + Param(0, "\0\x0a"s) + Param(9, "")},
      {"empty alpn", kService + Param(1, "")},
      {"empty alpn id", kService + Param(1, "\0"s)},
      {"overlong alpn id", kService + Param(1, "\3h2")},
      {"no-default-alpn with a value", kService + Param(1, "\2h2") + Param(2, "x")},
      {"no-default-alpn without alpn", kService + Param(2, "")},
      {"short port", kService + Param(3, "\1")},
      {"long port", kService + Param(3, "\1\1\1")},
      {"empty ipv4hint", kService + Param(4, "")},
      {"odd ipv4hint", kService + Param(4, "\1\2\3\4\5")},
      {"empty ech", kService + Param(5, "")},
      {"empty ECHConfigList", kService + Param(5, "\0\0"s)},
      {"ECHConfigList shorter than it says", kService + Param(5, "\0\5\1"s)},
      {"ECHConfigList longer than it says", kService + Param(5, "\0\1\1\1"s)},
      {"empty ipv6hint", kService + Param(6, "")},
      {"odd ipv6hint", kService + Param(6, "\1\2\3\4")},
      {"the invalid key", kService + Param(65535, "")},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.what);
    const ExactBytes exact(c.rdata);
    EXPECT_FALSE(ParseHttpsRecord(AsBytes(exact.view())).ok());
  }
}

TEST(HttpsRecord, WritesOnlyWhatIsReadBack) {
  const HttpsRecord bad[] = {
      {.priority = 1, .target = ""},
      {.priority = 1, .target = "UPPER"},
      {.priority = 1, .mandatory = {5}},
      {.priority = 1, .mandatory = {0}},
      {.priority = 1, .alpn = {""}},
      {.priority = 1, .alpn = {std::string(300, 'a')}},
      {.priority = 1, .no_default_alpn = true},
      {.priority = 1, .ipv4hint = {*ParseIpAddress("::1")}},
      {.priority = 1, .ech = {1, 2, 3}},
      {.priority = 1, .ech = std::vector<uint8_t>(70000)},
      {.priority = 1, .unknown = {{.key = 3, .value = {1, 1}}}},
      {.priority = 1, .unknown = {{.key = 9}, {.key = 8}}},
      {.priority = 0, .port = 1},
  };
  for (const HttpsRecord& record : bad) EXPECT_FALSE(EncodeHttpsRecord(record).ok());
}

// --- messages ---

DnsRecord Address(const std::string& name, const char* address, uint32_t ttl = 60) {
  const IpAddress ip = *ParseIpAddress(address);
  return {.name = name, .type = ip.v6 ? DnsType::kAaaa : DnsType::kA, .ttl_seconds = ttl, .data = ip};
}

DnsRecord Cname(const std::string& name, const std::string& target, uint32_t ttl = 60) {
  return {.name = name, .type = DnsType::kCname, .ttl_seconds = ttl, .data = DnsCname{target}};
}

DnsRecord Https(const std::string& name, HttpsRecord record, uint32_t ttl = 60) {
  return {.name = name, .type = DnsType::kHttps, .ttl_seconds = ttl, .data = std::move(record)};
}

TEST(DnsMessage, QueryIsPaddedAndReadBack) {
  const auto bytes = BuildQuery("Secret.Example", DnsType::kHttps);
  ASSERT_TRUE(bytes.ok());
  EXPECT_EQ(bytes->size(), 128U);
  EXPECT_EQ(Text(*bytes).substr(0, 12), "\0\0\1\0\0\1\0\0\0\0\0\1"s);
  const auto query = ParseQuery(*bytes);
  ASSERT_TRUE(query.ok()) << query.status();
  EXPECT_EQ(query->question, (DnsQuestion{"secret.example", DnsType::kHttps}));
  EXPECT_TRUE(query->recursion_desired);
  EXPECT_TRUE(query->has_edns);
  EXPECT_TRUE(query->padded);
  EXPECT_EQ(query->edns_version, 0);

  for (size_t length = 1; length < 250; ++length) {
    std::string name;
    while (name.size() < length) name += name.size() % 60 == 59 ? '.' : 'a';
    if (name.back() == '.') continue;
    EXPECT_EQ(BuildQuery(name, DnsType::kA)->size() % 128, 0U) << length;
  }
  const auto bare = BuildQuery("a", DnsType::kA, 7, 0);
  EXPECT_EQ(Text(*bare), "\0\7\1\0\0\1\0\0\0\0\0\1\1a\0\0\1\0\1\0\0\x29\4\xd0\0\0\0\0\0\0"s);
  EXPECT_FALSE(ParseQuery(*bare)->padded);
  EXPECT_FALSE(BuildQuery("a..b", DnsType::kA).ok());
}

TEST(DnsMessage, RefusesEveryCutAndTrail) {
  const auto query_bytes = BuildQuery("a.example", DnsType::kHttps);
  const auto query = ParseQuery(*query_bytes);
  const auto response_bytes =
      BuildResponse(*query, std::vector{Cname("a.example", "b.example"), Address("b.example", "192.0.2.1"),
                                        Address("b.example", "2001:db8::1"),
                                        Https("b.example", {.priority = 1, .alpn = {"h2"}, .ech = {0, 1, 7}})});
  ASSERT_TRUE(response_bytes.ok());
  EXPECT_EQ(response_bytes->size() % 468, 0U);
  EXPECT_TRUE(ParseResponse(*response_bytes).ok());
  for (const auto* bytes : {&*query_bytes, &*response_bytes}) {
    for (size_t size = 0; size < bytes->size(); ++size) {
      const ExactBytes exact(Text(*bytes).substr(0, size));
      EXPECT_FALSE(ParseQuery(AsBytes(exact.view())).ok()) << size;
      EXPECT_FALSE(ParseResponse(AsBytes(exact.view())).ok()) << size;
    }
    const std::string trailed = Text(*bytes) + "\0"s;
    EXPECT_FALSE(ParseQuery(AsBytes(trailed)).ok());
    EXPECT_FALSE(ParseResponse(AsBytes(trailed)).ok());
  }
  EXPECT_FALSE(ParseQuery(*response_bytes).ok());
  EXPECT_FALSE(ParseResponse(*query_bytes).ok());
}

TEST(DnsMessage, ResponseRoundTrip) {
  DnsQuery query{.id = 0x1234, .recursion_desired = true, .question = {"a.example", DnsType::kHttps}};
  const std::vector answers = {Cname("a.example", "b.example", 300), Address("b.example", "192.0.2.1", 0),
                               Address("b.example", "::1", INT32_MAX),
                               Https("b.example", {.priority = 1, .port = 8443, .ech = {0, 1, 7}})};
  for (const bool edns : {false, true}) {
    query.has_edns = edns;
    const auto bytes = BuildResponse(query, answers, DnsRcode::kNoError);
    ASSERT_TRUE(bytes.ok()) << bytes.status();
    const auto response = ParseResponse(*bytes);
    ASSERT_TRUE(response.ok()) << response.status();
    EXPECT_EQ(response->id, 0x1234);
    EXPECT_EQ(response->rcode, DnsRcode::kNoError);
    EXPECT_FALSE(response->truncated);
    EXPECT_EQ(response->question, query.question);
    EXPECT_EQ(response->answers, answers);
    EXPECT_TRUE(CheckAnswers(*response, "A.example.", DnsType::kHttps, 0x1234).ok());
    EXPECT_FALSE(CheckAnswers(*response, "a.example", DnsType::kHttps).ok());
    EXPECT_FALSE(CheckAnswers(*response, "b.example", DnsType::kHttps, 0x1234).ok());
    EXPECT_FALSE(CheckAnswers(*response, "a.example", DnsType::kA, 0x1234).ok());
  }
  EXPECT_EQ(ParseResponse(*BuildResponse(query, {}, DnsRcode::kBadVers))->rcode, DnsRcode::kBadVers);
  const auto missing = ParseResponse(*BuildResponse(query, {}, DnsRcode::kNxDomain));
  EXPECT_EQ(CheckAnswers(*missing, "a.example", DnsType::kHttps, 0x1234).code(), absl::StatusCode::kNotFound);
  const auto failed = ParseResponse(*BuildResponse(query, {}, DnsRcode::kServFail));
  EXPECT_EQ(CheckAnswers(*failed, "a.example", DnsType::kHttps, 0x1234).code(), absl::StatusCode::kUnavailable);
  query.has_edns = false;
  EXPECT_FALSE(BuildResponse(query, {}, DnsRcode::kBadVers).ok());
  EXPECT_FALSE(BuildResponse(query, std::vector{DnsRecord{.name = "a", .type = DnsType::kA}}).ok());
  DnsRecord wrong = Address("a", "1.2.3.4");
  wrong.type = DnsType::kAaaa;
  EXPECT_FALSE(BuildResponse(query, std::vector{wrong}).ok());
  EXPECT_FALSE(BuildResponse(query, std::vector(65, Address("a", "1.2.3.4"))).ok());
}

// A response of one question `a A` and the given counts and records, without EDNS.
std::string Response(const std::string& flags, const std::string& counts, const std::string& records) {
  return "\0\0"s + flags + "\0\1"s + counts + "\1a\0\0\1\0\1"s + records;
}
const std::string kOneAnswer = "\0\1\0\0\0\0"s;
const std::string kOneExtra = "\0\0\0\0\0\1"s;

TEST(DnsMessage, ReadsTtlAndUnknownTypes) {
  const auto response =
      ParseResponse(AsBytes(Response("\x81\x80", "\0\3\0\0\0\0"s,
                                     "\xc0\x0c\0\1\0\1\x80\0\0\0\0\4\1\2\3\4"s + "\xc0\x0c\0\x10\0\1\0\0\0\1\0\2\1x"s +
                                         "\xc0\x0c\0\1\0\1\x7f\xff\xff\xff\0\4\1\2\3\5"s)));
  ASSERT_TRUE(response.ok()) << response.status();
  ASSERT_EQ(response->answers.size(), 3U);
  EXPECT_EQ(response->answers[0].ttl_seconds, 0U);
  EXPECT_EQ(response->answers[1].type, static_cast<DnsType>(16));
  EXPECT_TRUE(std::holds_alternative<std::monostate>(response->answers[1].data));
  EXPECT_EQ(response->answers[2].ttl_seconds, 0x7fffffffU);
}

TEST(DnsMessage, RefusesMalformedResponses) {
  const std::string ok = "\x81\x80";
  const std::string owner = "\xc0\x0c"s;
  const std::string opt = "\0\0\x29\4\xd0\0\0\0\0\0\0"s;
  const struct {
    const char* what;
    std::string message;
  } cases[] = {
      {"opcode", Response("\x88\x80", "\0\0\0\0\0\0"s, "")},
      {"two questions", "\0\0\x81\x80\0\2\0\0\0\0\0\0\1a\0\0\1\0\1\1a\0\0\1\0\1"s},
      {"question of class CH", "\0\0\x81\x80\0\1\0\0\0\0\0\0\1a\0\0\1\0\3"s},
      {"more answers than there are", Response(ok, "\0\2\0\0\0\0"s, owner + "\0\1\0\1\0\0\0\1\0\4\1\2\3\4"s)},
      {"too many answers", Response(ok, "\0\x41\0\0\0\0"s, "")},
      {"65535 records", Response(ok, "\0\0\xff\xff\xff\xff"s, "")},
      {"A of 3 bytes", Response(ok, kOneAnswer, owner + "\0\1\0\1\0\0\0\1\0\3\1\2\3"s)},
      {"AAAA of 4 bytes", Response(ok, kOneAnswer, owner + "\0\x1c\0\1\0\0\0\1\0\4\1\2\3\4"s)},
      {"class CH", Response(ok, kOneAnswer, owner + "\0\1\0\3\0\0\0\1\0\4\1\2\3\4"s)},
      {"CNAME past its data", Response(ok, kOneAnswer, owner + "\0\5\0\1\0\0\0\1\0\1\1a\0"s)},
      {"CNAME shorter than its data", Response(ok, kOneAnswer, owner + "\0\5\0\1\0\0\0\1\0\4\1a\0\0"s)},
      {"CNAME that points at itself", Response(ok, kOneAnswer, owner + "\0\5\0\1\0\0\0\1\0\2\xc0\x1f"s)},
      {"owner that points at itself", Response(ok, kOneAnswer, "\xc0\x13\0\1\0\1\0\0\0\1\0\4\1\2\3\4"s)},
      {"data past the message", Response(ok, kOneAnswer, owner + "\0\1\0\1\0\0\0\1\xff\xff\1\2\3\4"s)},
      {"malformed HTTPS", Response(ok, kOneAnswer, owner + "\0\x41\0\1\0\0\0\1\0\4\0\1\0x"s)},
      {"OPT among answers", Response(ok, kOneAnswer, opt)},
      {"two OPTs", Response(ok, "\0\0\0\0\0\2"s, opt + opt)},
      {"OPT of a name", Response(ok, kOneExtra, "\1a" + opt)},
      {"cut option", Response(ok, kOneExtra, "\0\0\x29\4\xd0\0\0\0\0\0\3\0\x0c\0"s)},
      {"option past OPT", Response(ok, kOneExtra, "\0\0\x29\4\xd0\0\0\0\0\0\4\0\x0c\0\1"s)},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.what);
    const ExactBytes exact(c.message);
    EXPECT_FALSE(ParseResponse(AsBytes(exact.view())).ok());
  }
  EXPECT_TRUE(ParseResponse(AsBytes(Response(ok, kOneExtra, opt))).ok());
  EXPECT_FALSE(ParseResponse(std::vector<uint8_t>(65536)).ok());
}

TEST(DnsMessage, TruncatedIsNoAnswer) {
  const auto response = ParseResponse(AsBytes(Response("\x83\x80", "\0\0\0\0\0\0"s, "")));
  ASSERT_TRUE(response.ok());
  EXPECT_TRUE(response->truncated);
  EXPECT_FALSE(CheckAnswers(*response, "a", DnsType::kA).ok());
}

TEST(DnsAnswer, FollowsCnamesWithTheLeastTtl) {
  DnsResponse response;
  response.answers = {Https("c", {.priority = 2, .alpn = {"h3"}}, 500),
                      Cname("b", "c", 30),
                      Cname("a", "b", 100),
                      Https("c", {.priority = 1}, 200),
                      Https("c", {.priority = 1, .mandatory = {9}, .unknown = {{.key = 9}}}, 400),
                      Https("elsewhere", {.priority = 1}, 1),
                      Https("c", {.priority = 1, .port = 1}, 200)};
  const auto answer = FindHttps(response, "A.");
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->owner, "c");
  EXPECT_EQ(answer->ttl_seconds, 30U);
  EXPECT_FALSE(answer->alias);
  ASSERT_EQ(answer->services.size(), 3U);
  EXPECT_EQ(answer->services[0], (HttpsRecord{.priority = 1}));
  EXPECT_EQ(answer->services[1], (HttpsRecord{.priority = 1, .port = 1}));
  EXPECT_EQ(answer->services[2].priority, 2);
  EXPECT_EQ(FindHttps(response, "c")->ttl_seconds, 200U);
  EXPECT_TRUE(FindHttps(response, "nothing")->services.empty());
  EXPECT_EQ(FindHttps(response, "nothing")->ttl_seconds, 0U);
}

TEST(DnsAnswer, AliasHidesServices) {
  DnsResponse response;
  response.answers = {Https("a", {.priority = 1}), Https("a", {.priority = 0, .target = "b"})};
  const auto answer = FindHttps(response, "a");
  EXPECT_EQ(answer->alias, "b");
  EXPECT_TRUE(answer->services.empty());
}

TEST(DnsAnswer, RefusesCnameLoops) {
  DnsResponse response;
  response.answers = {Cname("a", "a")};
  EXPECT_FALSE(FindHttps(response, "a").ok());
  response.answers = {Cname("a", "b"), Cname("b", "a")};
  EXPECT_FALSE(FindAddresses(response, "a").ok());
  response.answers = {Cname("a", "b"), Cname("a", "c")};
  EXPECT_FALSE(FindHttps(response, "a").ok());
  response.answers.clear();
  for (int i = 0; i < 8; ++i) response.answers.push_back(Cname(std::to_string(i), std::to_string(i + 1)));
  EXPECT_EQ(FindHttps(response, "0")->owner, "8");
  response.answers.push_back(Cname("8", "9"));
  EXPECT_FALSE(FindHttps(response, "0").ok());
}

TEST(DnsAnswer, FindsAddressesOfBothFamilies) {
  DnsResponse response;
  response.answers = {Cname("a", "b", 90), Address("b", "192.0.2.1", 80), Address("b", "::1", 70),
                      Address("c", "192.0.2.2", 1)};
  const auto answer = FindAddresses(response, "a");
  EXPECT_THAT(answer->addresses, ElementsAre(*ParseIpAddress("192.0.2.1"), *ParseIpAddress("::1")));
  EXPECT_EQ(answer->ttl_seconds, 70U);
}

}  // namespace
}  // namespace tunnel::proto
