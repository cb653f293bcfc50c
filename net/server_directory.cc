#include "net/server_directory.h"

#include <utility>

#include "net/limits.h"

namespace tunnel::net {

absl::StatusOr<std::unique_ptr<ServerDirectory>> ServerDirectory::Create(core::Reactor& reactor, const Config& config,
                                                                         ech::DohTransport& doh, core::Scope& scope) {
  auto keeper = ServerKeeper::Create(reactor, config, doh, scope, {});
  if (!keeper.ok()) return keeper.status();
  ServerKeeper& to = **keeper;
  auto directory = std::make_unique<ServerDirectory>(reactor, config, [&to](ToKeeper call) { call(to); });
  directory->own_keeper_ = *std::move(keeper);
  to.Subscribe([&self = *directory](const auto& knowledge) { self.Learn(knowledge); });
  return directory;
}

ServerDirectory::ServerDirectory(core::Reactor& reactor, const Config& config, AskKeeper ask)
    : reactor_(reactor), config_(config), ask_(std::move(ask)) {}

void ServerDirectory::Learn(std::shared_ptr<const ServerKnowledge> knowledge) {
  knowledge_ = std::move(knowledge);
  told_.Set();
}

bool ServerDirectory::KnowsEnough() const {
  if (knowledge_ == nullptr) return false;
  const core::TimePoint now = reactor_.now();
  const bool ech = config_.fallback || (knowledge_->ech.has_value() && now < knowledge_->ech_usable_until);
  return ech && !knowledge_->addresses.empty() && now < knowledge_->addresses_usable_until;
}

absl::Status ServerDirectory::Missing() const {
  const core::TimePoint now = reactor_.now();
  absl::Status missing;
  if (!config_.fallback && (!knowledge_->ech.has_value() || now >= knowledge_->ech_usable_until)) {
    missing = NotFound("no connection without ECH: no ECHConfigList is known for {}", config_.ech_name);
  } else {
    missing = NotFound("no address is known for {}", config_.server_host);
  }
  if (knowledge_->failure.ok()) return missing;
  return MakeStatus(knowledge_->failure.code(), "{}: {} (asked {} s ago)", MessageOf(missing),
                    MessageOf(knowledge_->failure),
                    std::chrono::duration_cast<std::chrono::seconds>(now - knowledge_->failed_at).count());
}

core::Task<absl::StatusOr<ServerRoute>> ServerDirectory::Route() {
  core::TaskContext& context = co_await core::CurrentTask();
  if (KnowsEnough() && knowledge_->suspect) {
    const core::DeadlineGuard limit(context, kSuspectWait);
    while (knowledge_->suspect && knowledge_->looking_up && context.interruption().ok()) {
      told_.Reset();
      (void)co_await told_.Wait();
    }
  }
  if (!context.interruption().ok()) co_return context.interruption();
  while (!KnowsEnough()) {
    if (knowledge_ != nullptr && !knowledge_->looking_up) co_return Missing();
    told_.Reset();
    const absl::Status waited = co_await told_.Wait();
    if (!waited.ok()) co_return Annotate(waited, "no answer yet about {}", config_.server_host);
  }
  ServerRoute route;
  if (!config_.fallback) route.ech = knowledge_->ech;
  route.addresses = knowledge_->addresses;
  co_return std::move(route);
}

ech::Rejection ServerDirectory::OnRejected(const ech::ConfigToUse& used, const std::vector<uint8_t>& retry_configs) {
  ech::Rejection rejection = ech::JudgeRejection(used, retry_configs);
  ask_([used, rejection](ServerKeeper& keeper) { keeper.OnRejected(used, rejection); });
  return rejection;
}

void ServerDirectory::OnDialFailed() {
  ask_([](ServerKeeper& keeper) { keeper.OnDialFailed(); });
}

}  // namespace tunnel::net
