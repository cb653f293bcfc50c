#include "ech/config_source.h"

#include <algorithm>
#include <utility>

#include "ech/config_list.h"

namespace tunnel::ech {

absl::StatusOr<ConfigSource> ConfigSource::Static(std::span<const uint8_t> list) {
  absl::StatusOr<std::vector<uint8_t>> usable = FilterUsable(list);
  if (!usable.ok()) return usable.status();
  ConfigSource source;
  source.static_ = true;
  source.list_ = *std::move(usable);
  return source;
}

std::optional<ConfigToUse> ConfigSource::Current(TimePoint now) const {
  if (list_.empty() || (!static_ && now >= expires_at_)) return std::nullopt;
  return ConfigToUse{list_, static_ ? ConfigOrigin::kStatic : ConfigOrigin::kDns};
}

bool ConfigSource::NeedsRefresh(TimePoint now) const {
  if (static_) return false;
  return list_.empty() || rejected_ || now >= refresh_at_;
}

std::optional<TimePoint> ConfigSource::RefreshAt() const {
  if (static_) return std::nullopt;
  return refresh_at_;
}

absl::Status ConfigSource::StoreFromDns(std::span<const uint8_t> list, std::chrono::seconds ttl, TimePoint now) {
  if (static_) return absl::OkStatus();
  absl::StatusOr<std::vector<uint8_t>> usable = FilterUsable(list);
  if (!usable.ok()) return usable.status();
  const std::chrono::seconds held = std::clamp(ttl, kShortestTtl, kLongestTtl);
  list_ = *std::move(usable);
  rejected_ = false;
  refresh_at_ = now + held * 4 / 5;
  expires_at_ = now + held;
  return absl::OkStatus();
}

Rejection ConfigSource::OnRejected(const ConfigToUse& used, std::span<const uint8_t> retry_configs) {
  // A dial with a list that was replaced meanwhile says nothing about the one held now.
  if (used.origin == ConfigOrigin::kRetryConfigs || used.list == list_) rejected_ = true;
  if (used.origin == ConfigOrigin::kRetryConfigs) {
    return {static_ ? RejectionAction::kBackOff : RejectionAction::kRefreshFromDns, {}};
  }
  // None sent, or none of a version we know: the server, authenticated by its public name, does not do ECH
  // (RFC 9849 section 6.1.6).
  absl::StatusOr<std::vector<uint8_t>> usable = FilterUsable(retry_configs);
  if (!usable.ok()) return {RejectionAction::kEchDisabledByServer, {}};
  return {RejectionAction::kRetryOnceWithRetryConfigs, {*std::move(usable), ConfigOrigin::kRetryConfigs}};
}

}  // namespace tunnel::ech
