#include "net/dns_rate_limit.h"

#include <gtest/gtest.h>

namespace tunnel::net {
namespace {

using proto::IpAddress;
using proto::ParseIpAddress;

const core::TimePoint kStart{std::chrono::hours(1)};

// How many questions in a row are answered, up to a bound.
uint32_t AnsweredInARow(DnsRateLimit& limit, const std::optional<IpAddress>& source, core::TimePoint now) {
  uint32_t count = 0;
  while (count < 2 * DnsRateLimit::kTotalBurst && !limit.Take(source, now).has_value()) ++count;
  return count;
}

TEST(DnsRateLimitTest, ASourceHasABurstAndThenARate) {
  DnsRateLimit limit;
  const std::optional<IpAddress> source = ParseIpAddress("192.0.2.1");
  EXPECT_EQ(AnsweredInARow(limit, source, kStart), DnsRateLimit::kSourceBurst);
  EXPECT_EQ(limit.Take(source, kStart), 1U);
  EXPECT_EQ(AnsweredInARow(limit, source, kStart + std::chrono::seconds(1)), DnsRateLimit::kSourcePerSecond);
  EXPECT_EQ(AnsweredInARow(limit, source, kStart + std::chrono::hours(1)), DnsRateLimit::kSourceBurst);
}

TEST(DnsRateLimitTest, ASourceIsANetwork) {
  for (const auto& [one, neighbour] :
       {std::pair("192.0.2.1", "192.0.2.254"), std::pair("192.0.2.1", "::ffff:192.0.2.9"),
        std::pair("2001:db8::1", "2001:db8:0:ff:1::1")}) {
    DnsRateLimit limit;
    EXPECT_EQ(AnsweredInARow(limit, ParseIpAddress(one), kStart), DnsRateLimit::kSourceBurst) << one;
    EXPECT_EQ(AnsweredInARow(limit, ParseIpAddress(neighbour), kStart), 0U) << neighbour;
  }
}

TEST(DnsRateLimitTest, OneSourceDoesNotUseUpTheOthersShare) {
  DnsRateLimit limit;
  const std::optional<IpAddress> greedy = ParseIpAddress("192.0.2.1");
  for (uint32_t i = 0; i < 3 * DnsRateLimit::kTotalBurst; ++i) (void)limit.Take(greedy, kStart);
  // Any four others: that they all share the bucket of the greedy one does not happen.
  uint32_t most = 0;
  for (const char* other : {"198.51.100.1", "203.0.113.1", "2001:db8:1::1", "2001:db8:2::1"}) {
    most = std::max(most, AnsweredInARow(limit, ParseIpAddress(other), kStart));
  }
  EXPECT_EQ(most, DnsRateLimit::kSourceBurst);
}

TEST(DnsRateLimitTest, AllTogetherHaveALimitToo) {
  DnsRateLimit limit;
  EXPECT_EQ(AnsweredInARow(limit, std::nullopt, kStart), DnsRateLimit::kTotalBurst);
  EXPECT_EQ(limit.Take(ParseIpAddress("192.0.2.1"), kStart), 1U);
  EXPECT_EQ(AnsweredInARow(limit, std::nullopt, kStart + std::chrono::seconds(1)), DnsRateLimit::kTotalPerSecond);
}

}  // namespace
}  // namespace tunnel::net
