// The client's current ECHConfigList: where it came from, how long it holds, and what to do when a server rejects it.
//
// Holds no clock and does no I/O: times are arguments, lookups are the caller's. One core owns one source.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "core/status.h"

namespace tunnel::ech {

// A value of the reactor's clock. Nothing here reads a clock.
using TimePoint = std::chrono::time_point<std::chrono::steady_clock>;

// A record's TTL is taken within these: 0 would mean a lookup per dial, a week a key that was withdrawn long ago.
inline constexpr std::chrono::seconds kShortestTtl{30};
inline constexpr std::chrono::seconds kLongestTtl{24 * 3600};

enum class ConfigOrigin : uint8_t {
  kStatic,        // -ech-config: never expires, is never refreshed
  kDns,           // an HTTPS record
  kRetryConfigs,  // sent by the server of a rejected handshake, for one connection
};

// A list to dial with. Copied into the dial, so that the source may be refreshed meanwhile.
struct ConfigToUse {
  std::vector<uint8_t> list;
  ConfigOrigin origin = ConfigOrigin::kDns;
};

enum class RejectionAction : uint8_t {
  kRetryOnceWithRetryConfigs,  // dial again at once with Rejection::retry
  kRefreshFromDns,             // look the record up again, then dial; back off when that fails
  kBackOff,                    // the list was given by hand and there is nothing to look up
  kEchDisabledByServer,        // an authenticated "no ECH here": refuse, or -fallback's business
};

struct Rejection {
  RejectionAction action = RejectionAction::kBackOff;
  ConfigToUse retry;  // set for kRetryOnceWithRetryConfigs
};

class ConfigSource {
 public:
  // A source that is filled by StoreFromDns.
  ConfigSource() = default;

  // A source with a list given by hand. Fails as FilterUsable does.
  [[nodiscard]] static absl::StatusOr<ConfigSource> Static(std::span<const uint8_t> list);

  // The list to dial with, reduced to its usable configs, or nothing before the first answer and after the last
  // expired.
  [[nodiscard]] std::optional<ConfigToUse> Current(TimePoint now) const;

  // Whether a lookup is due: none yet, four fifths of the TTL gone, or the list was rejected since it was stored.
  // Always false for a static list.
  [[nodiscard]] bool NeedsRefresh(TimePoint now) const;

  // When NeedsRefresh turns true by time alone; nothing for a static list. In the past when it is due already.
  [[nodiscard]] std::optional<TimePoint> RefreshAt() const;

  // Takes the list of an HTTPS record with its TTL. Fails as FilterUsable does and then keeps what it had. Ignored,
  // with success, by a static source.
  [[nodiscard]] absl::Status StoreFromDns(std::span<const uint8_t> list, std::chrono::seconds ttl, TimePoint now);

  // A handshake with `used` was rejected, its outer certificate verified; `retry_configs` is what the server sent.
  // They serve this one retry and are not kept: later dials go on with the published list (RFC 9849 section 6.1.6), and
  // a second rejection in a row is the server's misconfiguration.
  [[nodiscard]] Rejection OnRejected(const ConfigToUse& used, std::span<const uint8_t> retry_configs);

 private:
  bool static_ = false;
  bool rejected_ = false;  // since the list was stored
  std::vector<uint8_t> list_;
  TimePoint refresh_at_;
  TimePoint expires_at_;
};

}  // namespace tunnel::ech
