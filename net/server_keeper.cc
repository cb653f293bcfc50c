#include "net/server_keeper.h"

#include <algorithm>
#include <utility>

#include "core/log.h"
#include "ech/config_list.h"
#include "net/limits.h"
#include "proto/base64.h"
#include "proto/dns_name.h"

namespace tunnel::net {
namespace {

using core::Duration;
using core::TimePoint;

// Who was asked, for messages.
std::string ResolversAsked(const Config& config) {
  std::string text;
  for (const std::string& url : config.doh_urls) text += (text.empty() ? "" : ", ") + url;
  return text;
}

std::string CacheName(const std::string& name) {
  const absl::StatusOr<std::string> canonical = proto::CanonicalDnsName(name);
  if (canonical.ok()) return *canonical;
  const auto literal = core::SocketAddress::Parse(name, 0);
  return literal.has_value() ? literal->ip() : name;
}

// The configs of a list that are passed over, each with its reason.
void LogSkipped(std::span<const uint8_t> list) {
  if (!spdlog::should_log(spdlog::level::debug)) return;
  const auto parsed = ech::ParseConfigList(list);
  if (!parsed.ok()) return;  // which is told as a failure
  for (const std::string& reason : parsed->skipped) spdlog::debug("ECHConfigList: skipped {}", reason);
}

std::string FormatAge(Duration age) {
  const int64_t seconds = std::max<int64_t>(0, std::chrono::duration_cast<std::chrono::seconds>(age).count());
  if (seconds < 120) return fmt::format("{} s", seconds);
  if (seconds < 7200) return fmt::format("{} min", seconds / 60);
  if (seconds < 172800) return fmt::format("{} h", seconds / 3600);
  return fmt::format("{} days", seconds / 86400);
}

// What is worth a write: other content, or times that have moved by enough.
bool WorthSaving(const ech::CacheEntry& now, const std::optional<ech::CacheEntry>& saved) {
  if (!saved.has_value()) return now.config.has_value() || now.addresses.has_value();
  const auto moved = [](int64_t later, int64_t earlier) { return later - earlier >= kSaveInterval.count(); };
  if (now.config.has_value()) {
    if (!saved->config.has_value() || now.config->list != saved->config->list ||
        now.config->origin != saved->config->origin || now.config->rejected != saved->config->rejected ||
        moved(now.config->stored_seconds, saved->config->stored_seconds)) {
      return true;
    }
  }
  if (!now.addresses.has_value()) return false;
  return !saved->addresses.has_value() || now.addresses->addresses != saved->addresses->addresses ||
         moved(now.addresses->stored_seconds, saved->addresses->stored_seconds);
}

}  // namespace

absl::StatusOr<std::unique_ptr<ServerKeeper>> ServerKeeper::Create(core::Reactor& reactor, const Config& config,
                                                                   ech::DohTransport& doh, core::Scope& scope,
                                                                   std::filesystem::path cache_file) {
  ech::ConfigCache cache;
  if (!config.ech_config_list.empty()) {
    const auto* data = reinterpret_cast<const uint8_t*>(config.ech_config_list.data());
    auto given = ech::ConfigCache::Static(std::span(data, config.ech_config_list.size()));
    if (!given.ok()) return Annotate(given.status(), "-ech-config");
    cache = *std::move(given);
  }
  std::unique_ptr<ServerKeeper> keeper(
      new ServerKeeper(reactor, config, doh, scope, std::move(cache), std::move(cache_file)));
  keeper->Load();
  keeper->due_ = keeper->NextDue();
  keeper->Publish();
  // Not from here: the reactor is not running yet, and the start may still fail.
  if (keeper->due_ != core::kNever) keeper->lookup_timer_.SetAt(keeper->due_);
  return keeper;
}

ServerKeeper::ServerKeeper(core::Reactor& reactor, const Config& config, ech::DohTransport& doh, core::Scope& scope,
                           ech::ConfigCache cache, std::filesystem::path cache_file)
    : reactor_(reactor),
      config_(config),
      doh_(doh),
      scope_(scope),
      wants_ech_(!config.fallback && config.ech_config_list.empty()),
      cache_(std::move(cache)),
      lookup_timer_(reactor.timers(), [this] { Arm(); }),
      cache_file_(std::move(cache_file)),
      save_timer_(reactor.timers(), [this] { Save(); }),
      worker_(reactor) {
  for (core::SocketAddress address : config.server_addresses) {
    if (!address.is_unix()) address.set_port(config.server_port);
    addresses_.push_back(address);
  }
  if (const auto literal = core::SocketAddress::Parse(config.server_host, config.server_port);
      addresses_.empty() && literal.has_value()) {
    addresses_.push_back(*literal);
  }
  addresses_given_ = !addresses_.empty();
}

ServerKeeper::~ServerKeeper() = default;

bool ServerKeeper::LooksUp(const Config& config) {
  const bool ech = !config.fallback && config.ech_config_list.empty();
  const bool addresses = config.server_addresses.empty() &&
                         !core::SocketAddress::Parse(config.server_host, config.server_port).has_value();
  return ech || addresses;
}

std::filesystem::path ServerKeeper::CacheFileOf(const Config& config) {
  if (!LooksUp(config) || config.state_directory.empty()) return {};
  return std::filesystem::path(config.state_directory) / ech::kCacheFileName;
}

void ServerKeeper::Load() {
  if (cache_file_.empty()) return;
  std::string warning;
  auto loaded = ech::LoadCacheEntry(cache_file_, Entry().key, warning);
  if (!warning.empty()) spdlog::warn("{}", warning);
  if (!loaded.ok()) {
    spdlog::warn("going on without what was kept: {}", MessageOf(loaded.status()));
    return;
  }
  if (!loaded->has_value()) return;
  const ech::CacheEntry& entry = **loaded;
  const int64_t wall = reactor_.WallSeconds();
  const TimePoint now = reactor_.now();
  if (wants_ech_ && entry.config.has_value()) {
    if (cache_.Restore(*entry.config, wall, now)) {
      LogRestored("ECHConfigList", cache_.stored(), cache_.UsableUntil() - ech::kStaleLimit);
    } else {
      spdlog::info("the ECHConfigList in {} is too old, or not one that can be used", cache_file_.string());
    }
  }
  if (!addresses_given_ && entry.addresses.has_value()) {
    const ech::RestoredTimes times =
        ech::RestoreTimes(entry.addresses->stored_seconds, entry.addresses->expires_seconds, wall, now,
                          std::chrono::duration_cast<std::chrono::seconds>(kLongestAddressTtl));
    if (now < times.expires + ech::kStaleLimit) {
      addresses_ = entry.addresses->addresses;
      addresses_stored_ = times.stored;
      addresses_expire_ = times.expires;
      LogRestored("address", times.stored, times.expires);
    }
  }
  saved_ = entry;
}

void ServerKeeper::LogRestored(const char* what, TimePoint stored, TimePoint expires) const {
  const TimePoint now = reactor_.now();
  spdlog::info("the {} is from {}, {} old{}", what, cache_file_.string(), FormatAge(now - stored),
               now >= expires ? ", expired, and used until DoH has answered" : "");
}

TimePoint ServerKeeper::NextDue() {
  const TimePoint now = reactor_.now();
  TimePoint due = core::kNever;
  if (wants_ech_) {
    due = *cache_.RefreshAt();
    if (due <= now) return now;
  }
  if (!addresses_given_) {
    if (addresses_.empty()) return now;
    due = std::min(due, addresses_stored_ + (addresses_expire_ - addresses_stored_) * 4 / 5);
    if (due <= now) return now;
  }
  if (due == core::kNever) return due;
  // Up to an eighth earlier, so that clients that started together do not ask together.
  return due - reactor_.RandomBelow((due - now) / 8 + Duration(1));
}

void ServerKeeper::Arm() {
  if (looking_up_ || scope_.cancelled() || due_ == core::kNever) return;
  if (reactor_.now() < due_) {
    lookup_timer_.SetAt(due_);
    return;
  }
  looking_up_ = true;
  lookup_timer_.Cancel();
  Publish();
  scope_.Spawn(LookUp());
}

void ServerKeeper::LookUpSoon() {
  if (!LooksUp(config_) || failures_ > 0) return;
  const TimePoint earliest = looked_up_ ? looked_up_at_ + kLookupSpacing : reactor_.now();
  due_ = std::min(due_, std::max(earliest, reactor_.now()));
  Arm();
}

core::Task<void> ServerKeeper::LookUp() {
  ServerQuestion question;
  question.host = config_.server_host;
  question.port = config_.server_port;
  question.ech_name = config_.ech_name;
  question.want_ech = wants_ech_;
  question.want_addresses = !addresses_given_;
  core::TaskContext& context = co_await core::CurrentTask();
  ServerAnswer answer;
  {
    const core::DeadlineGuard limit(context, kLookupLimit);
    answer = co_await LookUpServer(doh_, std::move(question));
  }
  looking_up_ = false;
  if (!context.interruption().ok()) co_return;
  OnLookedUp(Apply(answer));
}

absl::Status ServerKeeper::Apply(const ServerAnswer& answer) {
  const TimePoint now = reactor_.now();
  absl::Status status;
  if (wants_ech_) {
    status = answer.ech_status;
    if (status.ok()) {
      LogSkipped(answer.ech_config_list);
      status = cache_.StoreFromDns(answer.ech_config_list, std::chrono::seconds(answer.ech_ttl_seconds), now);
    }
    status = Annotate(status, "ECH config of {} from {}", config_.ech_name, ResolversAsked(config_));
  }
  if (addresses_given_) return status;
  if (!answer.address_status.ok()) {
    if (!status.ok()) return status;
    return Annotate(answer.address_status, "address of {} from {}", config_.server_host, ResolversAsked(config_));
  }
  addresses_ = answer.addresses;
  addresses_stored_ = now;
  addresses_expire_ = now + std::clamp<Duration>(std::chrono::seconds(answer.address_ttl_seconds), kShortestAddressTtl,
                                                 kLongestAddressTtl);
  return status;
}

void ServerKeeper::OnLookedUp(const absl::Status& status) {
  const TimePoint now = reactor_.now();
  reactor_.counters().server_lookups.Add();
  looked_up_ = true;
  looked_up_at_ = now;
  suspect_ = false;
  const bool failed_before = failures_ > 0;
  failure_ = status;
  if (status.ok()) {
    failures_ = 0;
    due_ = NextDue();
    spdlog::debug("looked up {}: asked again in {}", config_.server_host, FormatAge(due_ - now));
    if (failed_before) spdlog::info("DoH answers again");
  } else {
    reactor_.counters().server_lookups_failed.Add();
    const Duration longest = std::min(kLookupBackOffMin * (1 << std::min(failures_, 16U)), kLookupBackOffMax);
    ++failures_;
    const Duration wait = longest / 2 + reactor_.RandomBelow(longest / 2);
    due_ = now + wait;
    const bool enough = (!wants_ech_ || cache_.Current(now).has_value()) && !addresses_.empty();
    if (enough && !failed_before) {
      const std::string age = wants_ech_ ? FormatAge(now - cache_.stored()) : FormatAge(now - addresses_stored_);
      spdlog::warn("going on with what was looked up {} ago: {}", age, MessageOf(status));
    } else {
      spdlog::debug("lookup failed: {}; asked again in {} ms", MessageOf(status), core::ToMilliseconds(wait));
    }
  }
  Publish();
  Save();
  Arm();
}

void ServerKeeper::Subscribe(Told told) {
  told(knowledge_);
  told_.push_back(std::move(told));
}

void ServerKeeper::Publish() {
  auto knowledge = std::make_shared<ServerKnowledge>();
  if (!config_.fallback) knowledge->ech = cache_.Current(reactor_.now());
  knowledge->ech_usable_until = cache_.UsableUntil();
  knowledge->addresses = addresses_;
  knowledge->addresses_usable_until = addresses_given_ ? core::kNever : addresses_expire_ + Duration(ech::kStaleLimit);
  knowledge->suspect = suspect_;
  knowledge->looking_up = looking_up_ || due_ <= reactor_.now();
  knowledge->failure = failure_;
  knowledge->failed_at = looked_up_at_;
  knowledge_ = std::move(knowledge);
  for (Told& told : told_) told(knowledge_);
}

void ServerKeeper::OnRejected(const ech::ConfigToUse& used, const ech::Rejection& rejection) {
  const bool by_hand = used.origin == ech::ConfigOrigin::kStatic && !cache_.rejected();
  cache_.OnRejected(used, rejection, reactor_.now());
  if (by_hand && rejection.action == ech::RejectionAction::kRetryOnceWithRetryConfigs) {
    spdlog::warn(
        "the server does not accept -ech-config any more; going on with what it sent, until this process "
        "ends: -ech-config {}",
        proto::Base64Encode(rejection.retry.list));
  }
  // Where retry configs came it is no more than worth asking; where none did there is nothing else.
  if (rejection.action != ech::RejectionAction::kRetryOnceWithRetryConfigs) suspect_ = true;
  Publish();
  Save();
  LookUpSoon();
}

void ServerKeeper::OnDialFailed() {
  if (!LooksUp(config_)) return;
  suspect_ = true;
  Publish();
  LookUpSoon();
}

ech::CacheEntry ServerKeeper::Entry() const {
  ech::CacheEntry entry;
  entry.key = {.host = CacheName(config_.server_host),
               .port = config_.server_port,
               .ech_name = CacheName(config_.ech_name.empty() ? config_.server_host : config_.ech_name)};
  return entry;
}

void ServerKeeper::Save() {
  if (cache_file_.empty()) return;
  if (saving_) {
    save_again_ = true;
    return;
  }
  const TimePoint now = reactor_.now();
  const int64_t wall = reactor_.WallSeconds();
  ech::CacheEntry entry = Entry();
  if (wants_ech_) entry.config = cache_.Save(wall, now);
  if (!addresses_given_ && !addresses_.empty()) {
    const auto seconds = [](Duration d) { return std::chrono::duration_cast<std::chrono::seconds>(d).count(); };
    ech::SavedAddresses kept;
    kept.stored_seconds = std::max<int64_t>(0, wall - seconds(now - addresses_stored_));
    kept.expires_seconds = kept.stored_seconds + seconds(addresses_expire_ - addresses_stored_);
    kept.addresses = addresses_;
    entry.addresses = std::move(kept);
  }
  if (!WorthSaving(entry, saved_)) return;
  saving_ = true;
  struct Job {
    std::filesystem::path path;
    ech::CacheEntry entry;
    absl::Status status;
    std::string warning;
  };
  auto job = std::make_shared<Job>(Job{.path = cache_file_, .entry = std::move(entry), .status = {}, .warning = {}});
  worker_.Run([job] { job->status = ech::SaveCacheEntry(job->path, job->entry, job->warning); },
              [this, job] {
                if (job->status.ok()) saved_ = std::move(job->entry);
                OnSaved(job->status, job->warning);
              });
}

void ServerKeeper::OnSaved(const absl::Status& status, const std::string& warning) {
  saving_ = false;
  if (!warning.empty()) spdlog::warn("{}", warning);
  if (absl::IsAborted(status) && ++busy_ <= kSaveAttempts) {
    save_timer_.SetAfter(kSaveAgain / 2 + reactor_.RandomBelow(kSaveAgain / 2));
    return;
  }
  busy_ = 0;
  // A later change is tried again; the reason is hardly another.
  if (!status.ok() && !std::exchange(save_failure_said_, true)) {
    spdlog::warn("what is known of the server is not kept for the next start: {}", MessageOf(status));
  }
  if (std::exchange(save_again_, false)) Save();
}

}  // namespace tunnel::net
