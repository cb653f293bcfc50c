#include "net/core_service.h"

#include "core/log.h"
#include "net/limits.h"

namespace tunnel::net {

TunnelService::TunnelService(core::Reactor& reactor)
    : reactor_(reactor), scope_(reactor), drain_scope_(reactor), relays_(reactor) {
  relays_.SetEmptied([this] { CheckIdle(); });
}

absl::Status TunnelService::Listen(const ListenSpec& spec, bool share_port, core::Listener::Accepted accepted) {
  auto listener = core::Listener::Open(reactor_, spec.address, share_port, std::move(accepted));
  if (!listener.ok()) return Annotate(listener.status(), "-l {}", spec.description);
  if (reactor_.index() == 0) {
    std::string text = spec.description;
    if (spec.address.port() == 0) text += fmt::format(" (port {})", listener->local_address().port());
    spdlog::info("listening on {}", text);
  }
  listeners_.push_back(*std::move(listener));
  return absl::OkStatus();
}

void TunnelService::Drain(absl::AnyInvocable<void()> drained) { drain_scope_.Spawn(DrainInOrder(std::move(drained))); }

void TunnelService::Hurry() {
  hurry_ = true;
  idle_.Set();
}

template <typename Condition>
core::Task<void> TunnelService::WaitUntil(Condition done, core::Duration limit) {
  core::TaskContext& context = co_await core::CurrentTask();
  const core::DeadlineGuard deadline(context, limit);
  while (!hurry_ && !done(*this)) {
    idle_.Reset();
    const absl::Status waited = co_await idle_.Wait();
    if (!waited.ok()) break;
  }
}

core::Task<void> TunnelService::DrainInOrder(absl::AnyInvocable<void()> drained) {
  listeners_.clear();
  co_await WaitUntil([](TunnelService& self) { return self.relays_.size() == 0; }, kDrainLimit);
  CloseChannels();
  co_await WaitUntil([](TunnelService& self) { return !self.HasChannels(); }, kCloseLimit);
  scope_.Cancel();
  co_await scope_.Join();
  // Closed sockets may still be sending what was queued; nobody is told when they are done, so they are looked at.
  const core::TimePoint limit = reactor_.now() + kCloseLimit;
  while (!hurry_ && reactor_.counters().sockets_open.Get() > 0 && reactor_.now() < limit) {
    core::Sleep pause(std::chrono::milliseconds(2));
    const absl::Status slept = co_await pause;
    if (!slept.ok()) break;
  }
  drained();
}

}  // namespace tunnel::net
