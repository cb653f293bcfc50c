// The server's way out for datagrams: names are resolved here, every address is judged by the policy, and UDP sockets
// send and receive.
#pragma once

#include <optional>

#include "core/datagram_socket.h"
#include "core/task.h"
#include "net/datagram_opener.h"
#include "net/limits.h"
#include "net/resolver.h"
#include "net/target_policy.h"

namespace tunnel::net {

// Each association has one socket per family, opened when it is first needed, so that every target sees the same sender
// (RFC 4787 REQ-1), and closed when nothing passed for the idle limit. Owner core only.
class DirectDatagrams final : public DatagramOpener {
 public:
  // Lookups run in `scope` and may outlive the associations that asked; all must outlive them. What is idle is let go
  // of after `idle_limit` and before one and a half times that.
  DirectDatagrams(core::Reactor& reactor, Resolver& resolver, const TargetPolicy& policy, core::Scope& scope,
                  core::Duration idle_limit = kAssociationIdleLimit)
      : reactor_(reactor), resolver_(resolver), policy_(policy), scope_(scope), idle_limit_(idle_limit) {}

  [[nodiscard]] absl::StatusOr<std::unique_ptr<DatagramAssociation>> Open(DatagramAssociation::Handler& handler,
                                                                          SenderFilter filter) override;

 private:
  class Association;
  // The address to which datagrams for `target` go.
  [[nodiscard]] core::Task<absl::StatusOr<core::SocketAddress>> FindAddress(proto::Target target);
  // The first of `addresses` that the policy allows and there is a way to.
  [[nodiscard]] absl::StatusOr<core::SocketAddress> Choose(const proto::Target& target,
                                                           std::vector<core::SocketAddress> addresses);
  // `asker` holds null once the association is gone.
  [[nodiscard]] core::Task<void> Ask(std::shared_ptr<Association*> asker, proto::Target target);

  core::Reactor& reactor_;
  Resolver& resolver_;
  const TargetPolicy& policy_;
  core::Scope& scope_;
  const core::Duration idle_limit_;
};

}  // namespace tunnel::net
