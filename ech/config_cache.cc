#include "ech/config_cache.h"

#include <openssl/sha.h>

#include <algorithm>
#include <utility>

#include "ech/config_list.h"

namespace tunnel::ech {

Sha256Digest DigestOf(std::span<const uint8_t> list) {
  Sha256Digest digest{};
  SHA256(list.data(), list.size(), digest.data());
  return digest;
}

Rejection JudgeRejection(const ConfigToUse& used, std::span<const uint8_t> retry_configs) {
  // None sent, or none of a version we know: the server, authenticated by its public name, does not do ECH
  // (RFC 9849 section 6.1.6).
  absl::StatusOr<std::vector<uint8_t>> usable = FilterUsable(retry_configs);
  if (!usable.ok()) return {RejectionAction::kEchDisabledByServer, {}};
  // A second rejection in a row is the server's misconfiguration: retry configs are for one more handshake.
  if (used.is_retry) return {RejectionAction::kBackOff, {}};
  return {RejectionAction::kRetryOnceWithRetryConfigs, {*std::move(usable), ConfigOrigin::kRetryConfigs, true}};
}

RestoredTimes RestoreTimes(int64_t stored_seconds, int64_t expires_seconds, int64_t wall_seconds, TimePoint now,
                           std::chrono::seconds longest_ttl) {
  const std::chrono::seconds ttl(std::clamp<int64_t>(expires_seconds - stored_seconds, 0, longest_ttl.count()));
  // Older than anything that is used, and no overflow of a TimePoint.
  const int64_t oldest = (kStaleLimit + longest_ttl).count() + 1;
  const int64_t age = wall_seconds - stored_seconds;
  if (age <= 0) return {now, now};
  const TimePoint stored = now - std::chrono::seconds(std::min(age, oldest));
  return {stored, stored + ttl};
}

absl::StatusOr<ConfigCache> ConfigCache::Static(std::span<const uint8_t> list) {
  absl::StatusOr<std::vector<uint8_t>> usable = FilterUsable(list);
  if (!usable.ok()) return usable.status();
  ConfigCache cache;
  cache.static_ = true;
  cache.given_ = *usable;
  cache.list_ = *std::move(usable);
  cache.origin_ = ConfigOrigin::kStatic;
  return cache;
}

TimePoint ConfigCache::UsableUntil() const { return static_ ? TimePoint::max() : expires_ + kStaleLimit; }

std::optional<ConfigToUse> ConfigCache::Current(TimePoint now) const {
  if (list_.empty() || now >= UsableUntil()) return std::nullopt;
  return ConfigToUse{list_, origin_};
}

std::optional<TimePoint> ConfigCache::RefreshAt() const {
  if (static_) return std::nullopt;
  if (list_.empty()) return TimePoint::min();
  return stored_ + (expires_ - stored_) * 4 / 5;
}

absl::Status ConfigCache::StoreFromDns(std::span<const uint8_t> list, std::chrono::seconds ttl, TimePoint now) {
  if (static_) return absl::OkStatus();
  absl::StatusOr<std::vector<uint8_t>> usable = FilterUsable(list);
  if (!usable.ok()) return usable.status();
  stored_ = now;
  expires_ = now + std::clamp(ttl, kShortestTtl, kLongestTtl);
  const bool keep = !list_.empty() && *usable != list_ && IsRejected(*usable) && !IsRejected(list_);
  if (keep) return absl::OkStatus();
  list_ = *std::move(usable);
  origin_ = ConfigOrigin::kDns;
  return absl::OkStatus();
}

void ConfigCache::OnRejected(const ConfigToUse& used, const Rejection& rejection, TimePoint now) {
  MarkRejected(used.list);
  if (rejection.action != RejectionAction::kRetryOnceWithRetryConfigs) {
    // What stood in for a list given by hand goes, and there is nothing else to fall back to.
    if (static_ && used.list == list_) {
      list_ = given_;
      origin_ = ConfigOrigin::kStatic;
    }
    return;
  }
  // A dial with a list that was replaced meanwhile says nothing about the one held now.
  if (!list_.empty() && !IsRejected(list_)) return;
  list_ = rejection.retry.list;
  origin_ = ConfigOrigin::kRetryConfigs;
  stored_ = now;
  expires_ = now + kRetryConfigsTtl;
  UnmarkRejected(list_);
}

bool ConfigCache::Restore(const SavedConfig& saved, int64_t wall_seconds, TimePoint now) {
  if (static_) return false;
  absl::StatusOr<std::vector<uint8_t>> usable = FilterUsable(saved.list);
  if (!usable.ok()) return false;
  const RestoredTimes times = RestoreTimes(saved.stored_seconds, saved.expires_seconds, wall_seconds, now, kLongestTtl);
  if (now >= times.expires + kStaleLimit) return false;
  list_ = *std::move(usable);
  origin_ = saved.origin;
  stored_ = times.stored;
  expires_ = times.expires;
  rejected_ = saved.rejected;
  if (rejected_.size() > kRejectedLists) rejected_.resize(kRejectedLists);
  return true;
}

std::optional<SavedConfig> ConfigCache::Save(int64_t wall_seconds, TimePoint now) const {
  if (static_ || list_.empty()) return std::nullopt;
  const auto seconds = [](TimePoint::duration d) {
    return std::chrono::duration_cast<std::chrono::seconds>(d).count();
  };
  SavedConfig saved;
  saved.origin = origin_;
  saved.stored_seconds = std::max<int64_t>(0, wall_seconds - seconds(now - stored_));
  saved.expires_seconds = saved.stored_seconds + seconds(expires_ - stored_);
  saved.list = list_;
  saved.rejected = rejected_;
  return saved;
}

bool ConfigCache::IsRejected(std::span<const uint8_t> list) const {
  return std::ranges::find(rejected_, DigestOf(list)) != rejected_.end();
}

void ConfigCache::MarkRejected(std::span<const uint8_t> list) {
  UnmarkRejected(list);
  if (rejected_.size() == kRejectedLists) rejected_.erase(rejected_.begin());
  rejected_.push_back(DigestOf(list));
}

void ConfigCache::UnmarkRejected(std::span<const uint8_t> list) { std::erase(rejected_, DigestOf(list)); }

}  // namespace tunnel::ech
