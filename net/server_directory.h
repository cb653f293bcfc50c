// What one core of a client knows of its tunnel server: where it is and under which ECHConfigList, held for their TTLs.
#pragma once

#include <optional>
#include <vector>

#include "core/task.h"
#include "ech/config_source.h"
#include "ech/doh_transport.h"
#include "net/config.h"

namespace tunnel::net {

struct ServerRoute {
  std::vector<core::SocketAddress> addresses;  // in the order to try; never empty
  std::optional<ech::ConfigToUse> ech;         // nothing only under -fallback
};

// Owner core only. `config` and `doh` must outlive it and its calls.
class ServerDirectory {
 public:
  // Fails when -ech-config holds no usable config.
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<ServerDirectory>> Create(core::Reactor& reactor,
                                                                               const Config& config,
                                                                               ech::DohTransport& doh);

  // The route to dial now, looked up over DoH when what is known has expired. Calls may overlap; they share one lookup.
  // Without an ECHConfigList it fails: there is no way on without ECH.
  [[nodiscard]] core::Task<absl::StatusOr<ServerRoute>> Route();

  // What to do after the server rejected `used` (RFC 9849 section 6.1.6).
  [[nodiscard]] ech::Rejection OnRejected(const ech::ConfigToUse& used, const std::vector<uint8_t>& retry_configs) {
    return source_.OnRejected(used, retry_configs);
  }
  // Dialling the addresses failed: ask for them again next time.
  void ForgetAddresses() { addresses_expire_ = reactor_.now(); }

 private:
  ServerDirectory(core::Reactor& reactor, const Config& config, ech::DohTransport& doh, ech::ConfigSource source);
  core::Task<absl::Status> Refresh();
  [[nodiscard]] bool NeedsLookup() const;

  core::Reactor& reactor_;
  const Config& config_;
  ech::DohTransport& doh_;
  ech::ConfigSource source_;
  bool addresses_given_ = false;  // by -ip or as the host of -f
  std::vector<core::SocketAddress> addresses_;
  core::TimePoint addresses_expire_;
  bool looking_up_ = false;
  core::Event looked_up_;
};

}  // namespace tunnel::net
