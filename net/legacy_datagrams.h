// The client's end of UDP on legacy channels: an application's association becomes one legacy association per target.
#pragma once

#include <absl/container/flat_hash_map.h>
#include <absl/functional/any_invocable.h>

#include <memory>

#include "core/timers.h"
#include "net/datagram_opener.h"
#include "net/legacy_client.h"
#include "net/limits.h"

namespace tunnel::net {

// What a legacy channel calls about one id.
class LegacyDatagramReceiver {
 public:
  virtual void OnConnected() = 0;
  virtual void OnRefused(std::string_view reason) = 0;
  virtual void OnDatagram(std::string_view host, uint16_t port, core::Slice payload) = 0;
  // The channel is over. The id has been forgotten there.
  virtual void OnChannelGone() = 0;

 protected:
  ~LegacyDatagramReceiver() = default;
};

// Each target is opened on a channel when it is first sent to, without waiting for the server's answer; again on
// another one when its channel was lost; and closed when nothing passed for the idle limit, or when others need the
// room.
class LegacyDatagrams final : public DatagramAssociation {
 public:
  // The channel for the next target, or nullptr when none is up.
  using Choose = absl::AnyInvocable<LegacyClient*()>;

  // Lets go of what is idle after `idle_limit` and before one and a half times that.
  LegacyDatagrams(core::Reactor& reactor, Choose choose, Handler& handler,
                  core::Duration idle_limit = kAssociationIdleLimit);
  ~LegacyDatagrams() override;

  void Send(const proto::Target& to, core::Slice payload) override;
  void Prepare(const proto::Target& target) override { (void)Find(target); }
  // Targets that are open now, or refused a moment ago.
  [[nodiscard]] size_t targets() const { return flows_.size(); }

 private:
  class Flow;
  Flow* Find(const proto::Target& target);
  void MakeRoom();
  void CloseUnusedSince(core::TimePoint limit);
  void Sweep();

  core::Reactor& reactor_;
  Choose choose_;
  Handler& handler_;
  const core::Duration idle_limit_;
  absl::flat_hash_map<proto::Target, std::unique_ptr<Flow>> flows_;
  core::Timer sweep_timer_;
};

}  // namespace tunnel::net
