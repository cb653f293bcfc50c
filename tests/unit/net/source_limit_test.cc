#include "net/source_limit.h"

#include <gtest/gtest.h>

#include <vector>

namespace tunnel::net {
namespace {

proto::IpAddress Ip(const char* text) { return *proto::ParseIpAddress(text); }

TEST(SourceLimit, CountsEachSource) {
  SourceLimit limit(2);
  auto first = limit.Take(Ip("192.0.2.1"));
  auto second = limit.Take(Ip("::ffff:192.0.2.1"));
  ASSERT_TRUE(first.has_value() && second.has_value());
  EXPECT_FALSE(limit.Take(Ip("192.0.2.1")).has_value());
  EXPECT_TRUE(limit.Take(Ip("192.0.2.2")).has_value());
  EXPECT_EQ(limit.sources(), 1U) << "the other's lease is gone";
  second.reset();
  auto third = limit.Take(Ip("192.0.2.1"));
  EXPECT_TRUE(third.has_value());
  first.reset();
  third.reset();
  EXPECT_EQ(limit.sources(), 0U);
}

TEST(SourceLimit, AnIpv6SourceIsItsSubnet) {
  SourceLimit limit(1);
  const auto lease = limit.Take(Ip("2001:db8:1:2:3::4"));
  EXPECT_FALSE(limit.Take(Ip("2001:db8:1:2:ffff::")).has_value());
  EXPECT_TRUE(limit.Take(Ip("2001:db8:1:3::4")).has_value());
}

TEST(SourceLimit, ALeaseMoves) {
  SourceLimit limit(1);
  SourceLimit::Lease kept;
  {
    auto lease = limit.Take(Ip("192.0.2.1"));
    ASSERT_TRUE(lease.has_value());
    kept = *std::move(lease);
  }
  EXPECT_FALSE(limit.Take(Ip("192.0.2.1")).has_value());
  const SourceLimit::Lease moved(std::move(kept));
  EXPECT_FALSE(limit.Take(Ip("192.0.2.1")).has_value());
}

TEST(SourceLimit, ZeroIsAnyNumber) {
  SourceLimit limit(0);
  std::vector<SourceLimit::Lease> leases;
  for (int i = 0; i < 100; ++i) {
    auto lease = limit.Take(Ip("192.0.2.1"));
    ASSERT_TRUE(lease.has_value());
    leases.push_back(*std::move(lease));
  }
  EXPECT_EQ(limit.sources(), 0U);
}

}  // namespace
}  // namespace tunnel::net
