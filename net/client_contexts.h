// What a client's connections are made with, from its configuration: trust and protocols for the tunnel server and for
// DoH resolvers.
#pragma once

#include <memory>
#include <vector>

#include "net/config.h"
#include "net/doh_client.h"
#include "net/tls_context.h"

namespace tunnel::net {

// One core's. Fail with one line that names the flag or file at fault.
[[nodiscard]] absl::StatusOr<std::unique_ptr<TlsClientContext>> MakeTunnelContext(const Config& config);
[[nodiscard]] absl::StatusOr<std::unique_ptr<TlsClientContext>> MakeDohContext(const Config& config);
// The resolvers of -dns, at least one, none of them the name that ECH hides.
[[nodiscard]] absl::StatusOr<std::vector<DohEndpoint>> DohEndpoints(const Config& config);

}  // namespace tunnel::net
