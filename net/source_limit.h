// How many channels each source address holds, over all cores of a server, so that one client cannot take them all.
#pragma once

#include <map>
#include <mutex>
#include <optional>
#include <utility>

#include "proto/ip_address.h"

namespace tunnel::net {

// Any thread: asked once a channel comes up and told once it is gone, so a lock costs nothing. Holds an entry only for
// sources that have channels. Must outlive its leases.
class SourceLimit {
 public:
  // `most` channels for a source; 0: any number.
  explicit SourceLimit(unsigned most) : most_(most) {}
  SourceLimit(const SourceLimit&) = delete;
  SourceLimit& operator=(const SourceLimit&) = delete;

  // One channel of a source, for as long as it lives.
  class Lease {
   public:
    Lease() = default;
    Lease(Lease&& other) noexcept : limit_(std::exchange(other.limit_, nullptr)), source_(other.source_) {}
    Lease& operator=(Lease&& other) noexcept {
      std::swap(limit_, other.limit_);
      std::swap(source_, other.source_);
      return *this;
    }
    ~Lease() {
      if (limit_ != nullptr) limit_->Release(source_);
    }

   private:
    friend class SourceLimit;
    Lease(SourceLimit& limit, const proto::IpAddress& source) : limit_(&limit), source_(source) {}
    SourceLimit* limit_ = nullptr;
    proto::IpAddress source_;
  };

  // nullopt when `source` holds as many as it may. An IPv4 address stands for itself (also when it is mapped into
  // IPv6), an IPv6 address for its /64: what one subscriber gets.
  [[nodiscard]] std::optional<Lease> Take(const proto::IpAddress& source);
  // Sources that hold any now.
  [[nodiscard]] size_t sources() const;

 private:
  void Release(const proto::IpAddress& source);

  const unsigned most_;
  mutable std::mutex mutex_;
  std::map<proto::IpAddress, unsigned> held_;
};

}  // namespace tunnel::net
