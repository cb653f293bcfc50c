#include "net/client_contexts.h"

#include <algorithm>
#include <string>

#include "core/check.h"
#include "net/name_guard.h"

namespace tunnel::net {
namespace {

absl::StatusOr<std::unique_ptr<TlsClientContext>> MakeContext(const Config& config, bool for_doh) {
  TlsClientOptions options;
  options.ca_file = config.ca_file;
  for (const std::string& pin : config.pins) {
    Pin bytes{};
    TUNNEL_CHECK(pin.size() == bytes.size());
    std::copy(pin.begin(), pin.end(), bytes.begin());
    options.pins.push_back(bytes);
  }
  // The tunnel speaks WebSocket over HTTP/1.1; browsers offer the same for wss://.
  options.alpn = for_doh ? std::vector<std::string>{"h2", "http/1.1"} : std::vector<std::string>{"http/1.1"};
  options.allow_tls12 = for_doh;
  // A resolver need not know who asks again.
  options.resume = !for_doh;
  return TlsClientContext::Create(options);
}

}  // namespace

absl::StatusOr<std::unique_ptr<TlsClientContext>> MakeTunnelContext(const Config& config) {
  return MakeContext(config, false);
}

absl::StatusOr<std::unique_ptr<TlsClientContext>> MakeDohContext(const Config& config) {
  return MakeContext(config, true);
}

absl::StatusOr<std::vector<DohEndpoint>> DohEndpoints(const Config& config) {
  std::vector<DohEndpoint> endpoints;
  for (const std::string& url : config.doh_urls) {
    auto endpoint = ParseDohUrl(url);
    if (!endpoint.ok()) return Annotate(endpoint.status(), "-dns {}", url);
    if (!config.fallback && IsSameHost(endpoint->host, config.server_host) && !IsAddress(endpoint->host)) {
      return InvalidArgument(
          "-dns {}: this is the name that ECH hides, and would be looked up and sent in clear; expected the address of "
          "the resolver, with -ca or -pin",
          url);
    }
    endpoints.push_back(*std::move(endpoint));
  }
  if (endpoints.empty()) return InvalidArgument("-dns: expected at least one DoH resolver");
  return endpoints;
}

}  // namespace tunnel::net
