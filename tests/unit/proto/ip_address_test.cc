#include "proto/ip_address.h"

#include <gtest/gtest.h>

namespace tunnel::proto {
namespace {

TEST(IpAddress, ParsesAndFormatsCanonically) {
  const struct {
    const char* text;
    const char* canonical;
  } cases[] = {
      {"0.0.0.0", "0.0.0.0"},
      {"255.255.255.255", "255.255.255.255"},
      {"::", "::"},
      {"::1", "::1"},
      {"1::", "1::"},
      {"2001:DB8:0:0:0:0:0:1", "2001:db8::1"},
      {"2001:0db8::0001", "2001:db8::1"},
      {"2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"},  // one zero group is not shortened
      {"2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"},     // the first of equal runs
      {"2001:0:0:1:0:0:0:1", "2001:0:0:1::1"},           // the longest run
      {"1:2:3:4:5:6:0:0", "1:2:3:4:5:6::"},
      {"::ffff:192.0.2.1", "::ffff:192.0.2.1"},
      {"::ffff:c000:201", "::ffff:192.0.2.1"},
      {"::192.0.2.1", "::c000:201"},
      {"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.text);
    const auto address = ParseIpAddress(c.text);
    ASSERT_TRUE(address);
    EXPECT_EQ(ToString(*address), c.canonical);
    EXPECT_EQ(ParseIpAddress(c.canonical), address);
  }
}

TEST(IpAddress, RefusesLooseForms) {
  for (const std::string_view text : {"",
                                      "1",
                                      "127.1",
                                      "127.0.1",
                                      "1.2.3.4.5",
                                      "01.2.3.4",
                                      "0177.0.0.1",
                                      "0x7f.0.0.1",
                                      "2130706433",
                                      "1.2.3.256",
                                      "1.2.3.4 ",
                                      " 1.2.3.4",
                                      "1.2.3.",
                                      ".1.2.3",
                                      ":",
                                      ":::",
                                      "1::2::3",
                                      "12345::",
                                      "[::1]",
                                      "fe80::1%eth0",
                                      "::g",
                                      "1:2:3:4:5:6:7:8:9",
                                      "1:2:3:4:5:6:7",
                                      "example.com",
                                      "::ffff:1.2.3"}) {
    EXPECT_FALSE(ParseIpAddress(text)) << text;
  }
  EXPECT_FALSE(ParseIpAddress(std::string_view("1.2.3.4\0", 8)));
  EXPECT_FALSE(ParseIpAddress(std::string_view("1.2.3.4\0x", 9)));
}

TEST(IpAddress, Orders) {
  EXPECT_LT(*ParseIpAddress("9.0.0.0"), *ParseIpAddress("10.0.0.0"));
  EXPECT_LT(*ParseIpAddress("255.0.0.0"), *ParseIpAddress("::"));
  EXPECT_NE(*ParseIpAddress("0.0.0.0"), *ParseIpAddress("::"));
  EXPECT_EQ(Unmapped(*ParseIpAddress("::ffff:1.2.3.4")), *ParseIpAddress("1.2.3.4"));
  EXPECT_EQ(Unmapped(*ParseIpAddress("::fffe:1.2.3.4")), *ParseIpAddress("::fffe:102:304"));
}

TEST(Cidr, Contains) {
  const struct {
    const char* cidr;
    const char* address;
    bool inside;
  } cases[] = {
      {"0.0.0.0/0", "1.2.3.4", true},
      {"0.0.0.0/0", "::ffff:1.2.3.4", true},
      {"0.0.0.0/0", "::1", false},
      {"::/0", "::1", true},
      {"::/0", "1.2.3.4", false},
      {"::/0", "::ffff:1.2.3.4", false},
      {"127.0.0.0/8", "127.255.0.1", true},
      {"127.0.0.0/8", "128.0.0.1", false},
      {"127.0.0.0/8", "::ffff:7f00:1", true},
      {"100.64.0.0/10", "100.127.255.255", true},
      {"100.64.0.0/10", "100.128.0.0", false},
      {"198.18.0.0/15", "198.19.0.0", true},
      {"198.18.0.0/15", "198.20.0.0", false},
      {"10.1.2.3/8", "10.200.0.0", true},
      {"10.0.0.1", "10.0.0.1", true},
      {"10.0.0.1", "10.0.0.2", false},
      {"fe80::/10", "febf::1", true},
      {"fe80::/10", "fec0::1", false},
      {"::1/128", "::1", true},
      {"2001:db8::/127", "2001:db8::1", true},
      {"2001:db8::/127", "2001:db8::2", false},
      {"::ffff:10.0.0.0/104", "10.9.9.9", true},
      {"::ffff:10.0.0.0/104", "11.0.0.0", false},
      {"1.2.3.4/31", "1.2.3.5", true},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(std::string(c.cidr) + " " + c.address);
    const auto cidr = ParseCidr(c.cidr);
    ASSERT_TRUE(cidr.ok());
    EXPECT_EQ(cidr->Contains(*ParseIpAddress(c.address)), c.inside);
  }
  EXPECT_EQ(ToString(*ParseCidr("10.1.2.3/8")), "10.0.0.0/8");
  EXPECT_EQ(ToString(*ParseCidr("2001:DB8:ffff::/33")), "2001:db8:8000::/33");
  EXPECT_EQ(ToString(*ParseCidr("::ffff:10.0.0.0/104")), "10.0.0.0/8");
}

TEST(Cidr, Refuses) {
  for (const char* text : {"", "/", "/8", "10.0.0.0/", "10.0.0.0/33", "::/129", "10.0.0.0/-1", "10.0.0.0/08",
                           "10.0.0.0/8/8", "10.0.0.0/8 ", "10.0.0/8", "example.com/8", "::/1000", "10.0.0.0/a"}) {
    EXPECT_FALSE(ParseCidr(text).ok()) << text;
  }
}

}  // namespace
}  // namespace tunnel::proto
