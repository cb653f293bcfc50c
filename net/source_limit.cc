#include "net/source_limit.h"

#include <algorithm>

#include "core/check.h"

namespace tunnel::net {

std::optional<SourceLimit::Lease> SourceLimit::Take(const proto::IpAddress& source) {
  proto::IpAddress counted = proto::Unmapped(source);
  if (counted.v6) std::fill(counted.bytes.begin() + 8, counted.bytes.end(), 0);
  if (most_ == 0) return Lease();
  const std::lock_guard lock(mutex_);
  unsigned& held = held_[counted];  // never 0 in the table otherwise
  if (held >= most_) return std::nullopt;
  ++held;
  return Lease(*this, counted);
}

size_t SourceLimit::sources() const {
  const std::lock_guard lock(mutex_);
  return held_.size();
}

void SourceLimit::Release(const proto::IpAddress& source) {
  const std::lock_guard lock(mutex_);
  const auto found = held_.find(source);
  TUNNEL_CHECK(found != held_.end() && found->second > 0);
  if (--found->second == 0) held_.erase(found);
}

}  // namespace tunnel::net
