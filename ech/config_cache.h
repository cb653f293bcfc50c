// The client's ECHConfigList: where it came from, how long it holds, what replaces it, and what a rejection means.
//
// A list is refreshed ahead of its expiry and used for a week after it: ECH mends itself, since a server that does not
// have the key any more sends the current list under an authenticated name (RFC 9849 section 6.1.6). What the server
// rejected is remembered, so that a DNS that is behind does not bring it back over a list that works.
//
// Holds no clock and does no I/O: times are arguments, lookups and files are the caller's. One core owns one cache.
#pragma once

#include <array>
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
// How long the server's retry configs hold: they come without a TTL.
inline constexpr std::chrono::seconds kRetryConfigsTtl{3600};
// What has expired is used for this long while nothing newer is to be had.
inline constexpr std::chrono::seconds kStaleLimit{7 * 24 * 3600};
// Rejected lists that are remembered: the last ones, for what comes back is what was published last.
inline constexpr size_t kRejectedLists = 4;

using Sha256Digest = std::array<uint8_t, 32>;
[[nodiscard]] Sha256Digest DigestOf(std::span<const uint8_t> list);

enum class ConfigOrigin : uint8_t {
  kStatic,        // -ech-config: never expires, is never refreshed
  kDns,           // an HTTPS record
  kRetryConfigs,  // sent by the server with a rejection
};

// A list to dial with. Copied into the dial, so that the cache may be refreshed meanwhile.
struct ConfigToUse {
  std::vector<uint8_t> list;
  ConfigOrigin origin = ConfigOrigin::kDns;
  bool is_retry = false;  // of a dial whose first handshake was rejected

  bool operator==(const ConfigToUse&) const = default;
};

enum class RejectionAction : uint8_t {
  kRetryOnceWithRetryConfigs,  // dial again at once with Rejection::retry
  kBackOff,                    // the retry was rejected too: dial later, with what a lookup has brought by then
  kEchDisabledByServer,        // an authenticated "no ECH here": refuse, or -fallback's business
};

struct Rejection {
  RejectionAction action = RejectionAction::kBackOff;
  ConfigToUse retry;  // set for kRetryOnceWithRetryConfigs
};

// What a handshake with `used` says that was rejected, its outer certificate verified; `retry_configs` is what the
// server sent. Pure; the cache is to be told by ConfigCache::OnRejected.
[[nodiscard]] Rejection JudgeRejection(const ConfigToUse& used, std::span<const uint8_t> retry_configs);

// A list as it is kept on disk, in wall-clock time.
struct SavedConfig {
  ConfigOrigin origin = ConfigOrigin::kDns;  // kDns or kRetryConfigs
  int64_t stored_seconds = 0;                // since 1970: when it came
  int64_t expires_seconds = 0;
  std::vector<uint8_t> list;
  std::vector<Sha256Digest> rejected;  // the newest last, at most kRejectedLists

  bool operator==(const SavedConfig&) const = default;
};

// How what is kept on disk translates to the monotonic clock. A wall clock that jumped back, or that was not set when
// the machine started, makes what is kept look as if it came just now; so a refresh is due at once wherever the file's
// times are not before the clock's.
struct RestoredTimes {
  TimePoint stored;
  TimePoint expires;
};
[[nodiscard]] RestoredTimes RestoreTimes(int64_t stored_seconds, int64_t expires_seconds, int64_t wall_seconds,
                                         TimePoint now, std::chrono::seconds longest_ttl);

class ConfigCache {
 public:
  // A cache that is filled by StoreFromDns and Restore.
  ConfigCache() = default;

  // A cache that begins with a list given by hand, which is never refreshed; the server's retry configs stand in for it
  // until the process ends. Fails as FilterUsable does.
  [[nodiscard]] static absl::StatusOr<ConfigCache> Static(std::span<const uint8_t> list);

  // The list to dial with, reduced to its usable configs, or nothing before the first answer and kStaleLimit after the
  // last expired.
  [[nodiscard]] std::optional<ConfigToUse> Current(TimePoint now) const;
  // When Current() ends; TimePoint::max() of a list given by hand.
  [[nodiscard]] TimePoint UsableUntil() const;
  // When the list came; meaningless without one.
  [[nodiscard]] TimePoint stored() const { return stored_; }
  [[nodiscard]] bool expired(TimePoint now) const { return !static_ && now >= expires_; }
  // The list was rejected since it came, and nothing the server sent has replaced it.
  [[nodiscard]] bool rejected() const { return !list_.empty() && IsRejected(list_); }

  // When a lookup is due: at four fifths of the TTL, long ago without a list. Nothing for a list given by hand.
  [[nodiscard]] std::optional<TimePoint> RefreshAt() const;

  // Takes the list of an HTTPS record with its TTL, unless it is one that was rejected and the list held now is not:
  // the DNS is behind, and the list held now gets the TTL. Fails as FilterUsable does and then keeps what it had.
  // Ignored, with success, by a list given by hand.
  [[nodiscard]] absl::Status StoreFromDns(std::span<const uint8_t> list, std::chrono::seconds ttl, TimePoint now);

  // A handshake with `used` was rejected, and JudgeRejection said `rejection`. Its retry configs replace `used`, unless
  // that was replaced meanwhile by what has not been rejected.
  void OnRejected(const ConfigToUse& used, const Rejection& rejection, TimePoint now);

  // Takes what was kept on disk, unless it is no usable list or too old. Returns whether it did.
  bool Restore(const SavedConfig& saved, int64_t wall_seconds, TimePoint now);
  // What to keep on disk; nothing for a list given by hand, and what stands in for it.
  [[nodiscard]] std::optional<SavedConfig> Save(int64_t wall_seconds, TimePoint now) const;

 private:
  [[nodiscard]] bool IsRejected(std::span<const uint8_t> list) const;
  void MarkRejected(std::span<const uint8_t> list);
  void UnmarkRejected(std::span<const uint8_t> list);

  bool static_ = false;
  std::vector<uint8_t> given_;  // of a static cache: the list given by hand
  std::vector<uint8_t> list_;
  ConfigOrigin origin_ = ConfigOrigin::kDns;
  TimePoint stored_;
  TimePoint expires_;
  std::vector<Sha256Digest> rejected_;  // the newest last
};

}  // namespace tunnel::ech
