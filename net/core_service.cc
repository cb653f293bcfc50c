#include "net/core_service.h"

#include "core/log.h"
#include "net/limits.h"

namespace tunnel::net {

TunnelService::TunnelService(core::Reactor& reactor)
    : reactor_(reactor), scope_(reactor), drain_scope_(reactor), relays_(reactor) {
  relays_.SetEmptied([this] { CheckIdle(); });
}

absl::Status TunnelService::Listen(const ListenSpec& spec, core::SocketAddress& bound, bool share_port,
                                   core::Listener::Accepted accepted) {
  const bool first = reactor_.index() == 0;
  // A Unix socket cannot be shared as a port can: core 0 alone accepts.
  if (spec.address.is_unix() && !first) return absl::OkStatus();
  if (spec.address.is_unix()) {
    bound = spec.address;
  } else if (first) {
    // SO_REUSEPORT would let a second process of the same user share the port unnoticed, so it is tried without first.
    auto free = core::Listener::Probe(reactor_, spec.address);
    if (!free.ok()) return Annotate(free.status(), "-l {}", spec.description);
    bound = *free;
  }
  auto listener = core::Listener::Open(reactor_, bound, share_port, std::move(accepted));
  if (!listener.ok()) return Annotate(listener.status(), "-l {}", spec.description);
  listeners_.push_back(*std::move(listener));
  if (first) LogListening(spec, bound);
  return absl::OkStatus();
}

void TunnelService::LogListening(const ListenSpec& spec, const core::SocketAddress& bound) {
  const std::string port =
      spec.address.port() == 0 && !spec.address.is_unix() ? fmt::format(" (port {})", bound.port()) : std::string();
  spdlog::info("listening on {}{}", spec.description, port);
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
  StopAdmitting();
  co_await WaitUntil([](TunnelService& self) { return self.relays_.size() == 0 && !self.HasLingeringStreams(); },
                     kDrainLimit);
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
