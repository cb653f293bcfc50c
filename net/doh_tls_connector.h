// Connections to DoH resolvers: TCP and TLS, the resolver's certificate verified.
#pragma once

#include "core/reactor.h"
#include "net/doh_connector.h"
#include "net/resolver.h"
#include "net/tls_context.h"

namespace tunnel::net {

class DohTlsConnector final : public DohConnector {
 public:
  // `resolver` looks up resolvers given by name, in clear: a DoH URL with an IP address avoids that. All must outlive
  // the connector.
  DohTlsConnector(core::Reactor& reactor, const TlsClientContext& tls, Resolver& resolver)
      : reactor_(reactor), tls_(tls), resolver_(resolver) {}

  [[nodiscard]] core::Task<absl::StatusOr<DohConnection>> Connect(std::string host, uint16_t port) override;

 private:
  core::Reactor& reactor_;
  const TlsClientContext& tls_;
  Resolver& resolver_;
};

}  // namespace tunnel::net
