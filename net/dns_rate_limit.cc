#include "net/dns_rate_limit.h"

#include <absl/hash/hash.h>

#include <algorithm>

namespace tunnel::net {
namespace {

constexpr core::Duration kSecond = std::chrono::seconds(1);
constexpr core::Duration kSourceEach = kSecond / DnsRateLimit::kSourcePerSecond;
constexpr core::Duration kTotalEach = kSecond / DnsRateLimit::kTotalPerSecond;

proto::IpAddress NetworkOf(const proto::IpAddress& address) {
  proto::IpAddress network = proto::Unmapped(address);
  std::fill(network.bytes.begin() + (network.v6 ? 7 : 3), network.bytes.end(), 0);
  return network;
}

}  // namespace

std::optional<uint32_t> DnsRateLimit::Take(const std::optional<proto::IpAddress>& source, core::TimePoint now) {
  Bucket* bucket = nullptr;
  if (source.has_value()) {
    const proto::IpAddress network = NetworkOf(*source);
    bucket = &sources_[absl::HashOf(network.v6, network.bytes) % kBuckets];
    if (!Has(*bucket, kSourceEach, kSourceBurst, now)) return 1;
  }
  if (!Has(total_, kTotalEach, kTotalBurst, now)) return 1;
  // Only together, or a source that is over its limit would use up the others' share.
  if (bucket != nullptr) Spend(*bucket, kSourceEach, now);
  Spend(total_, kTotalEach, now);
  return std::nullopt;
}

bool DnsRateLimit::Has(const Bucket& bucket, core::Duration each, uint32_t burst, core::TimePoint now) {
  return bucket.full_at <= now || bucket.full_at - now <= each * (burst - 1);
}

void DnsRateLimit::Spend(Bucket& bucket, core::Duration each, core::TimePoint now) {
  bucket.full_at = std::max(bucket.full_at, now) + each;
}

}  // namespace tunnel::net
