// The server's way out for datagrams through a SOCKS5 proxy (`-f socks5://`): each association is a UDP ASSOCIATE of
// its own with that proxy, which resolves names.
#pragma once

#include "core/datagram_socket.h"
#include "core/task.h"
#include "net/datagram_opener.h"
#include "net/limits.h"
#include "net/target_policy.h"
#include "net/upstream_proxy.h"

namespace tunnel::net {

// An association with the proxy is made when the first datagram needs it, made again when it was lost, and given up
// when nothing passed for the idle limit. Owner core only.
class UpstreamDatagrams final : public DatagramOpener {
 public:
  // Negotiations run in `scope` and may outlive the associations that asked; all must outlive them. What is idle is let
  // go of after `idle_limit` and before one and a half times that.
  UpstreamDatagrams(core::Reactor& reactor, UpstreamProxy& proxy, const TargetPolicy& policy, core::Scope& scope,
                    core::Duration idle_limit = kAssociationIdleLimit)
      : reactor_(reactor), proxy_(proxy), policy_(policy), scope_(scope), idle_limit_(idle_limit) {}

  // Of a target that is a name nobody here knows the address, so kTargetsOnly lets pass what the proxy does.
  [[nodiscard]] absl::StatusOr<std::unique_ptr<DatagramAssociation>> Open(DatagramAssociation::Handler& handler,
                                                                          SenderFilter filter) override;

 private:
  class Association;
  // `asker` holds null once the association is gone.
  [[nodiscard]] core::Task<void> Associate(std::shared_ptr<Association*> asker);
  [[nodiscard]] core::Task<absl::StatusOr<UpstreamAssociation>> AssociateCounted();

  core::Reactor& reactor_;
  UpstreamProxy& proxy_;
  const TargetPolicy& policy_;
  core::Scope& scope_;
  const core::Duration idle_limit_;
};

}  // namespace tunnel::net
