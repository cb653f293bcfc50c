// What client and server have in common on one core: their listeners' connections and how they stop.
#pragma once

#include <memory>
#include <vector>

#include "core/listener.h"
#include "core/reactor_group.h"
#include "core/task.h"
#include "net/config.h"
#include "net/relay.h"

namespace tunnel::net {

class TunnelService : public core::CoreService {
 public:
  explicit TunnelService(core::Reactor& reactor);

  // Stops accepting, lets streams finish for at most kDrainLimit (or until Hurry()), closes channels, ends every task,
  // then calls `drained`. Once.
  void Drain(absl::AnyInvocable<void()> drained);
  // Ends a drain at once.
  void Hurry();
  // Re-reads what may be re-read: certificates and keys. Fails in words and then goes on with what it had.
  [[nodiscard]] virtual absl::Status Reload() { return absl::OkStatus(); }

 protected:
  // Listens for `spec` on this core; `accepted` gets each connection. Core 0 comes first: it fails when the port is
  // taken, and stores in `bound` the address that the other cores share with it. On a Unix socket core 0 listens alone
  // and `accepted` deals the connections out.
  [[nodiscard]] absl::Status Listen(const ListenSpec& spec, core::SocketAddress& bound, bool share_port,
                                    core::Listener::Accepted accepted);
  // Says in the log that something listens for `spec`, and on which port where the kernel chose it.
  static void LogListening(const ListenSpec& spec, const core::SocketAddress& bound);
  // The listeners are closed: what else takes in something new stops it, and says so to its peers; what runs goes on.
  virtual void StopAdmitting() {}
  // Whether streams that no relay holds any more still have bytes on their way.
  [[nodiscard]] virtual bool HasLingeringStreams() const = 0;
  // Starts saying goodbye on every channel.
  virtual void CloseChannels() = 0;
  [[nodiscard]] virtual bool HasChannels() const = 0;
  // To be called when one of these or the number of relays may have become zero.
  void CheckIdle() { idle_.Set(); }

  [[nodiscard]] core::Reactor& reactor() const { return reactor_; }
  [[nodiscard]] core::Scope& scope() { return scope_; }
  [[nodiscard]] RelaySet& relays() { return relays_; }

 private:
  core::Task<void> DrainInOrder(absl::AnyInvocable<void()> drained);
  // Waits for `done` at most for `limit`, cut short by Hurry().
  template <typename Condition>
  core::Task<void> WaitUntil(Condition done, core::Duration limit);

  core::Reactor& reactor_;
  std::vector<core::Listener> listeners_;
  core::Scope scope_;        // connections, channels
  core::Scope drain_scope_;  // the drain itself
  RelaySet relays_;
  core::Event idle_;
  bool hurry_ = false;
};

}  // namespace tunnel::net
