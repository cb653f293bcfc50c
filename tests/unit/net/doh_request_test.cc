#include "net/doh_request.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "proto/base64.h"
#include "proto/dns_message.h"

namespace tunnel::net {
namespace {

using testing::HasSubstr;

IncomingDohQuery Parse(const std::string& text) {
  proto::RequestHead head;
  EXPECT_EQ(proto::ParseRequestHead(text, head).kind, proto::HeadResult::Kind::kDone) << text;
  EXPECT_TRUE(IsDohPath(head.path)) << text;
  return ParseDohRequest(head);
}

IncomingDohQuery Get(const std::string& query, const std::string& method = "GET") {
  return Parse(fmt::format("{} /dns-query{} HTTP/1.1\r\nHost: x\r\n\r\n", method, query));
}

IncomingDohQuery Post(const std::string& fields) {
  return Parse(fmt::format("POST /dns-query HTTP/1.1\r\nHost: x\r\n{}\r\n", fields));
}

TEST(DohRequestTest, KnowsItsPath) {
  EXPECT_TRUE(IsDohPath("/dns-query"));
  EXPECT_TRUE(IsDohPath("/dns-query?dns=AAAA"));
  EXPECT_FALSE(IsDohPath("/dns-query/"));
  EXPECT_FALSE(IsDohPath("/"));
  EXPECT_FALSE(IsDohPath("/x?/dns-query"));
}

TEST(DohRequestTest, TakesGet) {
  const std::vector<uint8_t> query = *proto::BuildQuery("secret.example", proto::DnsType::kHttps);
  const std::string text = proto::Base64UrlEncode(query);
  for (const std::string& parameters : {"?dns=" + text, "?a=b&dns=" + text, "?dns=" + text + "&", "?&dns=" + text}) {
    const IncomingDohQuery parsed = Get(parameters);
    EXPECT_EQ(parsed.status, 200) << parameters;
    EXPECT_EQ(parsed.query, query) << parameters;
    EXPECT_FALSE(parsed.query_is_body);
  }
  EXPECT_EQ(Get("?dns=" + text, "HEAD").query, query);
}

TEST(DohRequestTest, RefusesBadGet) {
  for (const char* bad : {"", "?", "?dns", "?DNS=AAAA", "?dns=A", "?dns=AA==", "?dns=AA+A", "?dns=AA/A", "?dns=AB",
                          "?dns=AAAA&dns=AAAA", "?dns=%41AAA", "?xdns=AAAA"}) {
    EXPECT_EQ(Get(bad).status, 400) << bad;
  }
  EXPECT_EQ(Get("?dns=" + std::string(7000, 'A')).status, 413);
  EXPECT_EQ(Parse("GET /dns-query?dns=AAAA HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n").status, 400);
}

TEST(DohRequestTest, TakesPost) {
  const std::string type = "Content-Type: application/dns-message\r\n";
  EXPECT_TRUE(Post(type + "Content-Length: 40\r\n").query_is_body);
  EXPECT_TRUE(Post(type + "Transfer-Encoding: chunked\r\n").query_is_body);
  EXPECT_EQ(Post(type + "Content-Length: 4096\r\n").status, 200);
  EXPECT_EQ(Post(type + "Content-Length: 4097\r\n").status, 413);
  EXPECT_EQ(Post(type).status, 400);
  EXPECT_EQ(Post("Content-Length: 40\r\n").status, 415);
  EXPECT_EQ(Post("Content-Type: text/plain\r\nContent-Length: 40\r\n").status, 415);
}

TEST(DohRequestTest, RefusesOtherMethods) {
  for (const char* method : {"PUT", "DELETE", "OPTIONS", "get"}) EXPECT_EQ(Get("?dns=AAAA", method).status, 405);
}

TEST(DohRequestTest, BuildsResponses) {
  const std::vector<uint8_t> message = {1, 2, 3};
  const std::string text = BuildDohResponse({.body = message}, false, false);
  proto::ResponseHead head;
  const proto::HeadResult result = proto::ParseResponseHead(text, "GET", head);
  ASSERT_EQ(result.kind, proto::HeadResult::Kind::kDone);
  EXPECT_EQ(head.status, 200);
  EXPECT_EQ(head.fields.Find("content-type"), "application/dns-message");
  EXPECT_EQ(head.fields.Find("cache-control"), "max-age=300");
  EXPECT_EQ(head.framing.length, 3);
  EXPECT_TRUE(head.persistent);
  EXPECT_EQ(text.substr(result.head_bytes), "\1\2\3");

  EXPECT_FALSE(BuildDohResponse({.body = message}, true, false).ends_with("\1\2\3"));
  EXPECT_THAT(BuildDohResponse({.status = 405}, false, true), HasSubstr("Allow: GET, HEAD, POST\r\n"));
  for (const int status : {400, 405, 413, 415}) {
    EXPECT_THAT(BuildDohResponse({.status = status}, false, true), HasSubstr("Connection: close\r\n"));
  }
}

}  // namespace
}  // namespace tunnel::net
