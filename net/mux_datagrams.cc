#include "net/mux_datagrams.h"

#include "core/log.h"
#include "net/limits.h"
#include "net/mux_channel.h"

namespace tunnel::net {

void MuxDatagrams::Send(const proto::Target& to, core::Slice payload) {
  const core::TimePoint now = reactor_.now();
  last_used_ = now;
  if (stream_ == nullptr) {
    const MuxRoute route = now < refused_until_ ? MuxRoute() : choose_();
    auto opened = route.channel == nullptr ? absl::StatusOr<MuxStream*>(Unavailable("no channel is up"))
                                           : route.session->OpenDatagrams(*route.channel);
    if (!opened.ok()) {
      reactor_.counters().datagrams_dropped.Add();
      return;
    }
    stream_ = *opened;
    handle_ = stream_->TakeHandle();
    stream_->SetWatcher(this);
    idle_timer_.SetAfter(kAssociationIdleLimit);
  }
  stream_->SendDatagram(to, std::move(payload));
}

void MuxDatagrams::OnOpened(const absl::Status& status) {
  if (status.ok()) return;
  spdlog::debug("UDP association: {}", MessageOf(status));
  refused_until_ = reactor_.now() + kRefusedTargetLimit;
  Close();
}

void MuxDatagrams::OnCarried(const proto::Target& address, core::Slice payload) {
  last_used_ = reactor_.now();
  handler_.OnDatagram(address, std::move(payload));
}

void MuxDatagrams::OnGone(const absl::Status& reason) {
  spdlog::debug("UDP association: {}", MessageOf(reason));
  Close();
}

void MuxDatagrams::OnIdle() {
  const core::TimePoint until = last_used_ + kAssociationIdleLimit;
  if (reactor_.now() < until) {
    idle_timer_.SetAt(until);
  } else {
    Close();
  }
}

void MuxDatagrams::Close() {
  idle_timer_.Cancel();
  if (stream_ == nullptr) return;
  std::exchange(stream_, nullptr)->SetWatcher(nullptr);
  handle_.reset();
}

}  // namespace tunnel::net
