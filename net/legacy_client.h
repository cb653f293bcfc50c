// The client's end of a legacy channel, and opening a stream over several of them by the legacy race.
#pragma once

#include <absl/container/flat_hash_map.h>

#include <vector>

#include "core/task.h"
#include "net/legacy_carrier.h"
#include "proto/target.h"

namespace tunnel::net {

class LegacyOpen;

class LegacyClient final : public LegacyCarrier {
 public:
  // `channel` is the number that CLAIM names.
  LegacyClient(core::Reactor& reactor, WebSocket& socket, uint32_t channel, Down down)
      : LegacyCarrier(reactor, socket, proto::Role::kClient, std::move(down)), channel_(channel) {}
  ~LegacyClient() override;

 private:
  friend class LegacyOpen;
  void OnHead(const proto::LegacyHead& head) override;
  void OnPayload(core::Slice piece) override { (void)piece; }
  void OnMessageComplete() override {}
  void OnMalformed(const proto::LegacyHead& head) override;
  void OnUnknownStream(const proto::LegacyHead& head) override;
  void OnChannelDown(const absl::Status& reason) override;

  const uint32_t channel_;
  absl::flat_hash_map<proto::ConnectionId, LegacyOpen*> opens_;
};

// Opens a stream to `target` on one of `channels` (at least one, all up): they race with CLAIM, the first to answer
// carries it; a single channel is not asked. `first` goes with the request. Ends when the server says that the target
// is connected, with the server's refusal (kUnavailable), or with why the wait was cut short.
[[nodiscard]] core::Task<absl::StatusOr<std::unique_ptr<ByteStream>>> OpenLegacyStream(
    core::Reactor& reactor, std::vector<LegacyClient*> channels, proto::Target target, core::Slice first);

}  // namespace tunnel::net
