// The client on one core: listeners, channels, DoH.
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "core/reactor_group.h"
#include "net/core_service.h"
#include "net/tls_context.h"

namespace tunnel::net {

class ClientService;
class ServerKeeper;

// What the cores of a client share: constant after Prepare(), but for `up` and `services`.
class ClientShared {
 public:
  // Checks what can be checked before anything runs: trust anchors, pins, the ECHConfigList. Uses at most `threads`
  // cores, and no more than there are channels, so that every core has one.
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<ClientShared>> Prepare(const Config& config, unsigned threads);

  // The DoH resolvers that are given by name, which is looked up in clear; empty when there are none, or none is asked.
  [[nodiscard]] static std::string DohNameInClear(const Config& config);

  [[nodiscard]] unsigned threads() const { return static_cast<unsigned>(services.size()); }

  const Config& config;
  // Channels up on each core: written by that core, read by one that has none and looks where to send a connection.
  std::vector<std::atomic<unsigned>> up;
  // Where each of config.listen is bound: core 0 says it before the others listen.
  std::vector<core::SocketAddress> bound;
  // Used on their own core only.
  std::vector<ClientService*> services;
  // Core 0 only.
  ServerKeeper* keeper = nullptr;

  ClientShared(const Config& c, unsigned threads) : config(c), up(threads), bound(c.listen.size()), services(threads) {}
};

[[nodiscard]] absl::StatusOr<std::unique_ptr<TunnelService>> MakeClientService(core::Reactor& reactor,
                                                                               ClientShared& shared,
                                                                               core::ReactorGroup& group);

}  // namespace tunnel::net
