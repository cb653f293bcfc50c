#include "proto/target.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/status.h"
#include "proto/url.h"

namespace tunnel::proto {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(Target, ParsesAndPrints) {
  const struct {
    std::string text;
    Target target;
  } cases[] = {
      {"example.com:443", {"example.com", 443}},
      {"EXAMPLE.com:1", {"EXAMPLE.com", 1}},
      {"a_b-c.example.:65535", {"a_b-c.example.", 65535}},
      {"127.0.0.1:80", {"127.0.0.1", 80}},
      {"[::1]:80", {"::1", 80}},
      {"[2001:db8::1]:8443", {"2001:db8::1", 8443}},
      {"localhost:22", {"localhost", 22}},
      {"1.example:22", {"1.example", 22}},
      {"0xg.example:22", {"0xg.example", 22}},
      {std::string(255, 'a') + ":1", {std::string(255, 'a'), 1}},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.text);
    const auto target = ParseTarget(c.text);
    ASSERT_TRUE(target.ok()) << target.status();
    EXPECT_EQ(*target, c.target);
    EXPECT_EQ(ToString(*target), c.text);
  }
  EXPECT_EQ(ParseTarget("127.0.0.1:0", PortRule::kMayBeZero)->port, 0);
}

TEST(Target, Refuses) {
  for (const std::string& text : std::vector<std::string>{"",
                                                          ":",
                                                          ":80",
                                                          "host",
                                                          "host:",
                                                          "host:0",
                                                          "host:00",
                                                          "host:080",
                                                          "host:+80",
                                                          "host:-1",
                                                          "host:65536",
                                                          "host:99999999999",
                                                          "host:80 ",
                                                          "host:8a",
                                                          "::1:80",
                                                          "::1",
                                                          "[::1]",
                                                          "[::1]80",
                                                          "[::1]:",
                                                          "[::1",
                                                          "::1]:80",
                                                          "[127.0.0.1]:80",
                                                          "[host]:80",
                                                          "[]:80",
                                                          "[[::1]]:80",
                                                          "[fe80::1%lo]:80",
                                                          "ho st:80",
                                                          "host\t:80",
                                                          "user@host:80",
                                                          "ho/st:80",
                                                          "ho|st:80",
                                                          "ho[st:80",
                                                          "ho%41st:80",
                                                          "h\xc3\xb6st:80",
                                                          "host:80:80",
                                                          "127.1:80",
                                                          "0177.0.0.1:80",
                                                          "0x7f000001:80",
                                                          "2130706433:80",
                                                          "127.0.0.1.:80",
                                                          "a.0x1:80",
                                                          std::string("ho\0st:80", 8),
                                                          std::string(256, 'a') + ":80",
                                                          "host\r\n:80",
                                                          "host:80\n"}) {
    EXPECT_FALSE(ParseTarget(text).ok()) << text;
  }
  EXPECT_THAT(MessageOf(ParseTarget("::1:80").status()), HasSubstr("brackets"));
  EXPECT_THAT(MessageOf(ParseTarget("host").status()), HasSubstr("expected host:port"));
}

TEST(Target, SplitsWithoutPort) {
  const auto split = SplitHostPort("[::1]");
  ASSERT_TRUE(split);
  EXPECT_EQ(split->host, "::1");
  EXPECT_FALSE(split->port);
  EXPECT_EQ(SplitHostPort("example.com")->host, "example.com");
  EXPECT_EQ(SplitHostPort("example.com:8080")->port, 8080);
  EXPECT_FALSE(SplitHostPort("example.com:"));
}

TEST(Url, Parses) {
  const struct {
    const char* text;
    Url url;
  } cases[] = {
      {"wss://example.com/tunnel", {.scheme = "wss", .host = "example.com", .path = "/tunnel"}},
      {"WSS://example.com:8443", {.scheme = "wss", .host = "example.com", .port = 8443}},
      {"https://[2001:db8::1]:443/dns-query?a=b",
       {.scheme = "https", .host = "2001:db8::1", .port = 443, .path = "/dns-query?a=b"}},
      {"https://[::1]/", {.scheme = "https", .host = "::1", .path = "/"}},
      {"socks5://me:p%40ss%3A:x@127.0.0.1:1080",
       {.scheme = "socks5", .credentials = Credentials{"me", "p@ss::x"}, .host = "127.0.0.1", .port = 1080}},
      {"socks5://me@h:1", {.scheme = "socks5", .credentials = Credentials{"me", ""}, .host = "h", .port = 1}},
      {"tcp://127.0.0.1:1/[::1]:2", {.scheme = "tcp", .host = "127.0.0.1", .port = 1, .path = "/[::1]:2"}},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.text);
    const auto url = ParseUrl(c.text, {"ws", "wss", "https", "socks5", "tcp"});
    ASSERT_TRUE(url.ok()) << url.status();
    EXPECT_EQ(*url, c.url);
  }
  EXPECT_EQ(ParseUrl("proxy://0.0.0.0:0", {"proxy"}, PortRule::kMayBeZero)->port, 0);
  EXPECT_EQ(ToString(*ParseUrl("socks5://u:secret@[::1]:1080/x", {"socks5"})), "socks5://[::1]:1080/x");
}

TEST(Url, RefusesAndKeepsSecrets) {
  for (const char* text : {"",
                           "example.com",
                           "://example.com",
                           "ws:/example.com",
                           "http://example.com",
                           "wss://",
                           "wss:///path",
                           "wss://:80/",
                           "wss://host:0/",
                           "wss://host:65536/",
                           "wss://host:/",
                           "wss://::1/",
                           "wss://[::1/",
                           "wss://ho st/",
                           "wss://host/a b",
                           "wss://host/#x",
                           "wss://host/\x7f",
                           "wss://h\xc3\xb6st/",
                           "wss://host?x",
                           "wss://u@v@host/",
                           "wss://@host/",
                           "wss://u:%4@host/",
                           "wss://u:%zz@host/",
                           "wss://host/\n",
                           " wss://host/"}) {
    EXPECT_FALSE(ParseUrl(text, {"ws", "wss"}).ok()) << text;
  }
  const auto error = ParseUrl("wss://user:hunter2@host:99999/", {"ws", "wss"}).status();
  EXPECT_THAT(MessageOf(error), HasSubstr("ws:// or wss://"));
  EXPECT_THAT(MessageOf(error), HasSubstr("1 to 65535"));
  EXPECT_THAT(MessageOf(error), Not(HasSubstr("hunter2")));
  EXPECT_THAT(MessageOf(ParseUrl("wss://u:hunter/2@x@host", {"wss"}).status()), Not(HasSubstr("hunter")));
  EXPECT_THAT(MessageOf(ParseUrl("u:hunter2@host:1080", {"socks5"}).status()), Not(HasSubstr("hunter2")));
}

}  // namespace
}  // namespace tunnel::proto
