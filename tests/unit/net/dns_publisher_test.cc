#include "net/dns_publisher.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tunnel::net {
namespace {

using core::SocketAddress;
using proto::DnsRcode;
using proto::DnsResponse;
using proto::DnsType;
using proto::HttpsRecord;
using testing::ElementsAre;
using testing::IsEmpty;

const std::string kList("\0\4\xfe\x0d\0\0", 6);

class DnsPublisherTest : public testing::Test {
 protected:
  DnsPublisher publisher_{{"Secret.Example", "two.example.", "secret.example", "192.0.2.1", "*.wild.example", "", "."}};
  SocketAddress local_ = *SocketAddress::Parse("192.0.2.80", 443);
  std::string list_ = kList;

  DnsResponse Ask(const std::string& name, DnsType type) {
    const auto query = proto::BuildQuery(name, type, 7);
    EXPECT_TRUE(query.ok()) << query.status();
    const auto response = proto::ParseResponse(publisher_.Answer(*query, local_, list_));
    EXPECT_TRUE(response.ok()) << response.status();
    EXPECT_EQ(response->id, 7);
    EXPECT_TRUE(response->question.has_value());
    return *response;
  }
  HttpsRecord AskHttps(const std::string& name) {
    const DnsResponse response = Ask(name, DnsType::kHttps);
    EXPECT_EQ(response.rcode, DnsRcode::kNoError);
    EXPECT_EQ(response.answers.size(), 1);
    if (response.answers.size() != 1) return {};
    EXPECT_EQ(response.answers[0].ttl_seconds, kPublishedTtlSeconds);
    return std::get<HttpsRecord>(response.answers[0].data);
  }
  size_t AnswerCount(const std::string& name, DnsType type) {
    const DnsResponse response = Ask(name, type);
    EXPECT_EQ(response.rcode, DnsRcode::kNoError);
    return response.answers.size();
  }
};

TEST_F(DnsPublisherTest, KeepsNamesOnly) {
  EXPECT_THAT(publisher_.names(), ElementsAre("secret.example", "two.example"));
}

TEST_F(DnsPublisherTest, PublishesItsEchConfigList) {
  const HttpsRecord record = AskHttps("SECRET.example");
  EXPECT_EQ(record.priority, 1);
  EXPECT_EQ(record.target, ".");
  EXPECT_THAT(record.alpn, ElementsAre("http/1.1"));
  EXPECT_FALSE(record.port.has_value());
  EXPECT_EQ(std::string(record.ech.begin(), record.ech.end()), kList);
  EXPECT_THAT(record.ipv4hint, ElementsAre(*proto::ParseIpAddress("192.0.2.80")));
  EXPECT_THAT(record.ipv6hint, IsEmpty());
}

TEST_F(DnsPublisherTest, SaysWhichPortItIs) {
  local_.set_port(8443);
  EXPECT_EQ(AskHttps("two.example").port, 8443);
  EXPECT_EQ(AskHttps("_9443._https.two.example").port, 9443);
  EXPECT_EQ(AskHttps("_9443._https.two.example").target, "two.example");
  EXPECT_FALSE(AskHttps("_443._https.two.example").port.has_value());
}

TEST_F(DnsPublisherTest, PublishesWithoutEchWhenThereIsNone) {
  list_.clear();
  EXPECT_THAT(AskHttps("two.example").ech, IsEmpty());
}

TEST_F(DnsPublisherTest, FailsRatherThanPublishAMalformedList) {
  list_.assign(1, 'x');
  EXPECT_EQ(Ask("two.example", DnsType::kHttps).rcode, DnsRcode::kServFail);
}

TEST_F(DnsPublisherTest, AnswersWithTheAddressTheQueryArrivedOn) {
  const DnsResponse response = Ask("two.example", DnsType::kA);
  ASSERT_EQ(response.answers.size(), 1);
  EXPECT_EQ(std::get<proto::IpAddress>(response.answers[0].data), *proto::ParseIpAddress("192.0.2.80"));
  EXPECT_EQ(AnswerCount("two.example", DnsType::kAaaa), 0);

  local_ = *SocketAddress::Parse("2001:db8::80", 443);
  EXPECT_EQ(AnswerCount("two.example", DnsType::kA), 0);
  EXPECT_EQ(AnswerCount("two.example", DnsType::kAaaa), 1);
  EXPECT_THAT(AskHttps("two.example").ipv6hint, ElementsAre(*proto::ParseIpAddress("2001:db8::80")));

  local_ = *SocketAddress::Parse("::ffff:192.0.2.80", 443);
  EXPECT_EQ(AnswerCount("two.example", DnsType::kA), 1);
  EXPECT_EQ(AnswerCount("two.example", DnsType::kAaaa), 0);

  for (const char* nowhere : {"0.0.0.0", "::"}) {
    local_ = *SocketAddress::Parse(nowhere, 443);
    EXPECT_EQ(AnswerCount("two.example", DnsType::kA), 0);
    EXPECT_EQ(AnswerCount("two.example", DnsType::kAaaa), 0);
    EXPECT_THAT(AskHttps("two.example").ipv4hint, IsEmpty());
  }
}

TEST_F(DnsPublisherTest, HasNoRecordsOfOtherTypes) {
  for (const int type : {2, 5, 6, 15, 16, 33, 64, 255}) {
    EXPECT_EQ(AnswerCount("two.example", static_cast<DnsType>(type)), 0) << type;
  }
  EXPECT_EQ(AnswerCount("_8443._https.two.example", DnsType::kA), 0);
}

TEST_F(DnsPublisherTest, RefusesEveryOtherName) {
  for (const char* name :
       {"example", ".", "a.two.example", "wild.example", "x.wild.example", "192.0.2.1", "_https.two.example",
        "_0._https.two.example", "_65536._https.two.example", "_08443._https.two.example", "_x._https.two.example",
        "_8443._http.two.example", "_8443._https.other.example", "8443._https.two.example", "_._https.two.example"}) {
    for (const DnsType type : {DnsType::kA, DnsType::kHttps}) {
      const DnsResponse response = Ask(name, type);
      EXPECT_EQ(response.rcode, DnsRcode::kRefused) << name;
      EXPECT_THAT(response.answers, IsEmpty()) << name;
    }
  }
}

TEST_F(DnsPublisherTest, CallsGarbageAFormatError) {
  const std::vector<uint8_t> whole = *proto::BuildQuery("two.example", DnsType::kA, 7);
  for (size_t cut = 0; cut < whole.size(); ++cut) {
    const auto answer = publisher_.Answer(std::span(whole).first(cut), local_, list_);
    const auto response = proto::ParseResponse(answer);
    ASSERT_TRUE(response.ok()) << cut << ": " << response.status();
    EXPECT_EQ(response->rcode, DnsRcode::kFormErr) << cut;
    EXPECT_EQ(response->id, cut < 2 ? 0 : 7);
  }
  // A response is no query, or two servers could talk for ever.
  EXPECT_EQ(proto::ParseResponse(publisher_.Answer(publisher_.Answer(whole, local_, list_), local_, list_))->rcode,
            DnsRcode::kFormErr);
}

}  // namespace
}  // namespace tunnel::net
