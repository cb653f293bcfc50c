// The server on one core: listeners, channels, connects to targets.
#pragma once

#include <memory>
#include <vector>

#include "core/reactor_group.h"
#include "ech/key_store.h"
#include "net/core_service.h"
#include "net/dns_publisher.h"

namespace tunnel::net {

// Certificate and keys as they were read: what a reload replaces.
struct ServerIdentity {
  std::string certificate_file;
  std::string key_file;
  std::vector<std::string> names;
  std::vector<std::string> notes;     // for the log
  std::vector<std::string> warnings;  // for the log
  std::shared_ptr<const ech::KeyStore> ech_keys;
};

// What the cores of a server share; constant after Prepare(), but for `bound`.
class ServerShared {
 public:
  // Reads, or makes and keeps, the certificate and the ECH keys. Fails naming the file or flag at fault.
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<ServerShared>> Prepare(const Config& config);

  const Config& config;
  ServerIdentity identity;
  // Where each of config.listen is bound: core 0 says it before the others listen.
  std::vector<core::SocketAddress> bound;
  explicit ServerShared(const Config& c) : config(c), bound(c.listen.size()) {}
};

// Reads what Prepare() reads, again. Any thread.
[[nodiscard]] absl::StatusOr<ServerIdentity> LoadIdentity(const Config& config);

// Says which certificate and keys are in use.
void LogIdentity(const ServerIdentity& identity);

[[nodiscard]] absl::StatusOr<std::unique_ptr<TunnelService>> MakeServerService(core::Reactor& reactor,
                                                                               ServerShared& shared,
                                                                               core::ReactorGroup& group);

}  // namespace tunnel::net
