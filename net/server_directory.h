// What one core of a client knows of its tunnel server: the keeper's knowledge, as it was told last.
#pragma once

#include <absl/functional/any_invocable.h>

#include <memory>
#include <optional>
#include <vector>

#include "core/task.h"
#include "net/server_keeper.h"

namespace tunnel::net {

struct ServerRoute {
  std::vector<core::SocketAddress> addresses;  // in the order to try; never empty
  std::optional<ech::ConfigToUse> ech;         // nothing only under -fallback
};

// Owner core only. `config` must outlive it and its calls.
class ServerDirectory {
 public:
  using ToKeeper = absl::AnyInvocable<void(ServerKeeper&)>;
  // Has a call run where the keeper is, now or later.
  using AskKeeper = absl::AnyInvocable<void(ToKeeper)>;

  // A directory with a keeper of its own, which keeps nothing on disk: for one core by itself. See ServerKeeper for
  // what must outlive it. Fails when -ech-config holds no usable config.
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<ServerDirectory>> Create(core::Reactor& reactor,
                                                                               const Config& config,
                                                                               ech::DohTransport& doh,
                                                                               core::Scope& scope);
  // A directory that learns from a keeper elsewhere. Until it has, routes wait.
  ServerDirectory(core::Reactor& reactor, const Config& config, AskKeeper ask);

  // The route to dial now: at once when one is known, old or new. Otherwise it waits for the lookup that is going on;
  // when there is none, it fails with what the last one said. Where what is known failed its last use, a lookup that is
  // going on is waited for too, at most kSuspectWait. Calls may overlap. Without an ECHConfigList it fails: there is no
  // way on without ECH.
  [[nodiscard]] core::Task<absl::StatusOr<ServerRoute>> Route();

  // What to do after the server rejected `used` (RFC 9849 section 6.1.6); the keeper hears of it.
  [[nodiscard]] ech::Rejection OnRejected(const ech::ConfigToUse& used, const std::vector<uint8_t>& retry_configs);
  // A dial failed otherwise: what is known is asked for again.
  void OnDialFailed();

  // What the keeper told.
  void Learn(std::shared_ptr<const ServerKnowledge> knowledge);

 private:
  [[nodiscard]] bool KnowsEnough() const;
  [[nodiscard]] absl::Status Missing() const;

  core::Reactor& reactor_;
  const Config& config_;
  AskKeeper ask_;
  std::unique_ptr<ServerKeeper> own_keeper_;
  std::shared_ptr<const ServerKnowledge> knowledge_;  // null until it was told
  core::Event told_;
};

}  // namespace tunnel::net
