// The client's udp:// listeners: what comes to one socket goes to one target, and the answers back to who asked.
#pragma once

#include <absl/container/flat_hash_map.h>

#include <memory>
#include <string>

#include "core/datagram_socket.h"
#include "core/intrusive_list.h"
#include "core/timers.h"
#include "net/datagram_opener.h"
#include "net/limits.h"
#include "proto/target.h"

namespace tunnel::net {

// One socket. Every sender, an address and a port, has an association of its own, so that answers are told apart; it
// ends when nothing passed for the idle limit, or when there are too many and it was silent longest (senders_evicted).
// On an unspecified address the kernel picks the address that answers come from. Owner core only.
class UdpForward final : core::DatagramSocket::Handler {
 public:
  struct Bounds {
    size_t senders = kSendersPerUdpForward;
    core::Duration idle_limit = kAssociationIdleLimit;
  };

  // `opener` must outlive it. The target's name is resolved at the other end. `description` is for the log.
  UdpForward(core::Reactor& reactor, DatagramOpener& opener, proto::Target target, std::string description,
             const Bounds& bounds);
  UdpForward(core::Reactor& reactor, DatagramOpener& opener, proto::Target target, std::string description)
      : UdpForward(reactor, opener, std::move(target), std::move(description), Bounds()) {}
  UdpForward(const UdpForward&) = delete;
  UdpForward& operator=(const UdpForward&) = delete;
  ~UdpForward();

  // Binds to `address`, port 0 takes a free one, and starts. Fails with the kernel's reason. Once.
  [[nodiscard]] absl::Status Open(const core::SocketAddress& address);
  [[nodiscard]] core::SocketAddress local_address() const { return socket_.local_address(); }

  // From now on only senders that are known already are served; others' datagrams are dropped and counted.
  void StopAdmitting() { admitting_ = false; }
  [[nodiscard]] size_t senders() const { return senders_.size(); }

 private:
  class Sender;
  struct AddressHash {
    size_t operator()(const core::SocketAddress& address) const;
  };

  void OnDatagram(const core::SocketAddress& from, core::Slice data) override;
  void OnSocketError(core::IoError error) override;
  // Nullptr when there may be no further one.
  Sender* Admit(const core::SocketAddress& address);
  void Answer(Sender& sender, core::Slice payload);
  // Puts `sender` behind all others in the order of use.
  void Touch(Sender& sender);
  void Remove(Sender& sender);
  void Sweep();

  core::Reactor& reactor_;
  DatagramOpener& opener_;
  const proto::Target target_;
  const std::string description_;
  const Bounds bounds_;
  bool admitting_ = true;
  core::DatagramSocket socket_;
  core::IntrusiveList<Sender, UdpForward> by_use_;  // who was silent longest comes first
  absl::flat_hash_map<core::SocketAddress, std::unique_ptr<Sender>, AddressHash> senders_;
  core::Timer sweep_timer_;
};

}  // namespace tunnel::net
