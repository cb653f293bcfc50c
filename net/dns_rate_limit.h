// How many questions -serve-dns answers a second, for each source and in all.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "core/time.h"
#include "proto/ip_address.h"

namespace tunnel::net {

// Token buckets of one core, in memory of fixed size. Sources share a bucket when their hashes, which are salted by the
// process, fall together; that is rare, and a stranger cannot tell whose bucket is whose. One reactor's thread.
class DnsRateLimit {
 public:
  // A network with many clients behind one address starts them all at once, and a client asks three questions a dial.
  static constexpr uint32_t kSourceBurst = 200;
  static constexpr uint32_t kSourcePerSecond = 50;
  // What a core answers in a fraction of its time; handshakes and channels have the rest.
  static constexpr uint32_t kTotalBurst = 4000;
  static constexpr uint32_t kTotalPerSecond = 2000;
  static constexpr size_t kBuckets = 4096;

  DnsRateLimit() : sources_(kBuckets) {}

  // Takes one question at the time `now`, which never goes back. nullopt: answer it. Otherwise in how many seconds to
  // ask again, at least 1. An IPv4 source stands for its /24, an IPv6 one for its /56: what one attacker easily has.
  // No source: only the total counts.
  [[nodiscard]] std::optional<uint32_t> Take(const std::optional<proto::IpAddress>& source, core::TimePoint now);

 private:
  struct Bucket {
    core::TimePoint full_at{};  // when it has all its tokens again
  };
  // Whether a bucket of `burst` has one; it is not taken.
  static bool Has(const Bucket& bucket, core::Duration each, uint32_t burst, core::TimePoint now);
  static void Spend(Bucket& bucket, core::Duration each, core::TimePoint now);

  Bucket total_;
  std::vector<Bucket> sources_;
};

}  // namespace tunnel::net
