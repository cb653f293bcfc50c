// The server's way out: from a target to a connected stream, through the policy.
#pragma once

#include <memory>

#include "core/task.h"
#include "net/byte_stream.h"
#include "net/resolver.h"
#include "net/target_policy.h"
#include "net/upstream_proxy.h"
#include "proto/target.h"

namespace tunnel::net {

class TargetConnector {
 public:
  // All must outlive the connector and its calls. With `upstream` every target is reached through that proxy.
  TargetConnector(core::Reactor& reactor, Resolver& resolver, const TargetPolicy& policy,
                  UpstreamProxy* upstream = nullptr)
      : reactor_(reactor), resolver_(resolver), policy_(policy), upstream_(upstream) {}

  // Resolves, judges every address, and connects to those allowed (RFC 8305), all within kTargetConnectLimit. Fails
  // with kPermissionDenied when the policy allows none, kNotFound for an unknown name, kResourceExhausted over
  // kConnectsPerCore, else with the kernel's or the proxy's reasons. Any number of calls may overlap.
  [[nodiscard]] core::Task<absl::StatusOr<std::unique_ptr<ByteStream>>> Connect(proto::Target target);

 private:
  core::Reactor& reactor_;
  Resolver& resolver_;
  const TargetPolicy& policy_;
  UpstreamProxy* const upstream_;
};

}  // namespace tunnel::net
