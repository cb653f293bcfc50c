// The server on one core: listeners, channels, connects to targets.
#pragma once

#include <memory>
#include <vector>

#include "core/reactor_group.h"
#include "ech/key_store.h"
#include "net/core_service.h"
#include "net/dns_publisher.h"
#include "net/mux_session_directory.h"
#include "net/source_limit.h"
#include "net/ticket_keys.h"

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

class ServerService;

// What the cores of a server share; constant after Prepare(), but for `sources`, `directory`, `bound` and `services`.
class ServerShared {
 public:
  // Reads, or makes and keeps, the certificate and the ECH keys. Fails naming the file or flag at fault.
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<ServerShared>> Prepare(const Config& config, unsigned threads);

  const Config& config;
  ServerIdentity identity;
  SourceLimit sources;
  // For tickets, whichever core gave them.
  std::shared_ptr<TicketKeys> ticket_keys;
  std::unique_ptr<MuxSessionDirectory> directory;  // made by core 0, the first; ends before the group does
  // Where each of config.listen is bound: core 0 says it before the others listen.
  std::vector<core::SocketAddress> bound;
  // Used on their own core only.
  std::vector<ServerService*> services;
  ServerShared(const Config& c, unsigned threads)
      : config(c), sources(c.channels_per_source), bound(c.listen.size()), services(threads) {}
};

// Reads what Prepare() reads, again. Any thread.
[[nodiscard]] absl::StatusOr<ServerIdentity> LoadIdentity(const Config& config);

// Says which certificate and keys are in use.
void LogIdentity(const ServerIdentity& identity);

[[nodiscard]] absl::StatusOr<std::unique_ptr<TunnelService>> MakeServerService(core::Reactor& reactor,
                                                                               ServerShared& shared,
                                                                               core::ReactorGroup& group);

}  // namespace tunnel::net
