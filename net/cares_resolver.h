// The system's names: /etc/hosts, then the DNS servers of resolv.conf, asked by c-ares on the reactor.
#pragma once

#include <absl/container/flat_hash_map.h>

#include <memory>
#include <string>
#include <vector>

#include "core/descriptor_watch.h"
#include "core/reactor.h"
#include "core/timers.h"
#include "net/resolver.h"

struct ares_channeldata;
struct ares_addrinfo;

namespace tunnel::net {

struct CaresOptions {
  // "IP:PORT", comma-separated, instead of resolv.conf's; for tests.
  std::string servers;
  // Lookups in progress, abandoned ones included: more wait. Two queries each; a lookup ends by itself in seconds.
  size_t max_lookups = 256;
  // Names whose addresses are kept, for their TTL but not longer than this.
  size_t cache_names = 1024;
  core::Duration cache_limit = std::chrono::seconds(60);
  // For the first try of a query; the second has twice as long.
  std::chrono::milliseconds query_timeout{2000};
};

// A lookup that its task gave up goes on to its end and fills the cache. Calls for the same name share one lookup.
// Owner core only. The calls must have ended before it is destroyed.
class CaresResolver final : public Resolver {
 public:
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<CaresResolver>> Create(core::Reactor& reactor,
                                                                             CaresOptions options);
  CaresResolver(const CaresResolver&) = delete;
  CaresResolver& operator=(const CaresResolver&) = delete;
  ~CaresResolver();

  [[nodiscard]] core::Task<absl::StatusOr<std::vector<core::SocketAddress>>> Resolve(std::string host,
                                                                                     uint16_t port) override;

  [[nodiscard]] size_t lookups_in_progress() const { return lookups_.size(); }
  [[nodiscard]] size_t cached_names() const { return cache_.size(); }

 private:
  // One name being looked up; c-ares, the table and the waiting tasks hold it together.
  struct Lookup {
    CaresResolver* resolver = nullptr;
    std::string host;
    core::Event done;
    absl::StatusOr<std::vector<core::SocketAddress>> result = std::vector<core::SocketAddress>();  // port 0
  };
  struct CacheEntry {
    std::vector<core::SocketAddress> addresses;  // port 0
    core::TimePoint expires;
  };

  CaresResolver(core::Reactor& reactor, CaresOptions options);
  [[nodiscard]] absl::Status Open();
  [[nodiscard]] std::shared_ptr<Lookup> StartLookup(const std::string& host);
  void OnResult(Lookup& lookup, int status, const ares_addrinfo* result);
  void Remember(const std::string& host, const std::vector<core::SocketAddress>& addresses, core::Duration ttl);
  [[nodiscard]] const CacheEntry* Cached(const std::string& host);
  // c-ares wants to know of these events of its descriptor; neither: it is about to close it.
  void OnSocketState(int descriptor, bool readable, bool writable);
  // Lets c-ares read, write and time out, then sets the timer for when it wants to be called next.
  void Process(int readable, int writable);
  void UpdateTimer();

  core::Reactor& reactor_;
  const CaresOptions options_;
  ares_channeldata* channel_ = nullptr;
  core::Timer timer_;
  absl::flat_hash_map<int, std::unique_ptr<core::DescriptorWatch>> watches_;
  absl::flat_hash_map<std::string, std::shared_ptr<Lookup>> lookups_;
  absl::flat_hash_map<std::string, CacheEntry> cache_;
  core::Event lookup_ended_;
};

}  // namespace tunnel::net
