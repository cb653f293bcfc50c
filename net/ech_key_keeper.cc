#include "net/ech_key_keeper.h"

#include <algorithm>
#include <utility>

#include "core/log.h"

namespace tunnel::net {
namespace {

using std::chrono::system_clock;

system_clock::time_point WallNow(core::Reactor& reactor) {
  return system_clock::time_point(std::chrono::seconds(reactor.WallSeconds()));
}

}  // namespace

ech::KeyPolicy KeyPolicyOf(const Config& config) {
  return {.rotate = config.ech_rotate,
          .publish_delay = config.ech_publish_delay,
          .public_name = config.ech_public_name,
          .maximum_name_length = ech::MaximumNameLengthFor(config.names)};
}

EchKeyKeeper::EchKeyKeeper(core::Reactor& reactor, const Config& config, std::shared_ptr<const ech::KeyStore> current,
                           Changed changed)
    : reactor_(reactor),
      directory_(config.ech_key_directory),
      policy_(KeyPolicyOf(config)),
      current_(std::move(current)),
      changed_(std::move(changed)),
      settle_(reactor.timers(), [this] { Look(); }),
      next_(reactor.timers(), [this] { Look(); }),
      watch_(reactor, directory_, [this] { settle_.SetAfter(kSettle); }),
      worker_(reactor) {
  Look();
}

void EchKeyKeeper::Rewatch() {
  const absl::Status watched = watch_.Watch();
  if (watched.ok()) {
    unwatched_said_ = false;
  } else if (!std::exchange(unwatched_said_, true)) {
    spdlog::warn("{}; ECH keys are looked at every {} s instead", MessageOf(watched),
                 std::chrono::duration_cast<std::chrono::seconds>(kUnwatchedPause).count());
  }
}

void EchKeyKeeper::Look() {
  if (looking_) {
    look_again_ = true;
    return;
  }
  // Before the directory is read, or what happens between the two would be missed.
  Rewatch();
  looking_ = true;
  const system_clock::time_point now = WallNow(reactor_);
  auto result = std::make_shared<absl::StatusOr<ech::KeyLook>>(absl::UnknownError(""));
  worker_.Run(
      [result, directory = directory_, policy = policy_, now] { *result = ech::LookAfterKeys(directory, policy, now); },
      [this, result, now] { OnLooked(std::move(*result), now); });
}

void EchKeyKeeper::OnLooked(absl::StatusOr<ech::KeyLook> look, system_clock::time_point at) {
  looking_ = false;
  const bool told = watch_.watching() && !core::IsOnNetworkFileSystem(directory_);
  core::Duration pause = told ? kWatchedPause : kUnwatchedPause;
  if (!look.ok()) {
    Complain(look.status());
  } else {
    complaint_.clear();
    for (const std::string& event : look->events) spdlog::info("{}", event);
    if (look->next.has_value()) {
      // The wall clock counts seconds: one more, or it might still be before.
      const auto wait = std::max<system_clock::duration>(*look->next - at, std::chrono::seconds(0));
      pause =
          std::min<core::Duration>(pause, std::chrono::duration_cast<core::Duration>(wait) + std::chrono::seconds(1));
    }
    if (!look->store.SameAs(*current_)) {
      for (const std::string& warning : look->store.warnings()) spdlog::warn("{}", warning);
      current_ = std::make_shared<const ech::KeyStore>(std::move(look->store));
      spdlog::info("ECH keys: {} accepted ({}), published {:02x}", current_->keys().size(), current_->DescribeIds(),
                   current_->published().configs().front().config_id);
      changed_(current_);
    }
  }
  next_.SetAfter(pause);
  if (std::exchange(look_again_, false)) Look();
}

void EchKeyKeeper::Complain(const absl::Status& status) {
  std::string words(MessageOf(status));
  if (words == complaint_) return;
  spdlog::warn("ECH keys: going on with what was loaded before: {}", words);
  complaint_ = std::move(words);
}

}  // namespace tunnel::net
