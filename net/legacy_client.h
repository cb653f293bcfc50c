// The client's end of a legacy channel, and opening a stream over several of them by the legacy race.
#pragma once

#include <absl/container/flat_hash_map.h>

#include <optional>
#include <vector>

#include "core/task.h"
#include "net/datagram_assembler.h"
#include "net/legacy_carrier.h"
#include "proto/target.h"

namespace tunnel::net {

class LegacyOpen;
class LegacyDatagramReceiver;

class LegacyClient final : public LegacyCarrier {
 public:
  // `channel` is the number that CLAIM names.
  LegacyClient(core::Reactor& reactor, WebSocket& socket, uint32_t channel, Down down)
      : LegacyCarrier(reactor, socket, proto::Role::kClient, std::move(down)),
        channel_(channel),
        assembler_(reactor.buffers()) {}
  ~LegacyClient() override;

  // Messages of a UDP association go to `receiver` until it is removed, or told that the channel is gone.
  void AddDatagrams(const proto::ConnectionId& id, LegacyDatagramReceiver& receiver) {
    datagrams_.emplace(id, &receiver);
  }
  void RemoveDatagrams(const proto::ConnectionId& id) { datagrams_.erase(id); }

 private:
  friend class LegacyOpen;
  void OnHead(const proto::LegacyHead& head) override;
  void OnPayload(core::Slice piece) override { assembler_.Add(std::move(piece)); }
  void OnMessageComplete() override;
  void OnMalformed(const proto::LegacyHead& head) override;
  void OnUnknownStream(const proto::LegacyHead& head) override;
  void OnChannelDown(const absl::Status& reason) override;

  const uint32_t channel_;
  absl::flat_hash_map<proto::ConnectionId, LegacyOpen*> opens_;
  absl::flat_hash_map<proto::ConnectionId, LegacyDatagramReceiver*> datagrams_;
  // The UDP_DATA that is being read.
  std::optional<proto::LegacyHead> datagram_;
  DatagramAssembler assembler_;
};

// Opens a stream to `target` on one of `channels` (at least one, all up): they race with CLAIM, the first to answer
// carries it; a single channel is not asked. `first` goes with the request. Ends when the server says that the target
// is connected, with the server's refusal (kUnavailable), or with why the wait was cut short.
[[nodiscard]] core::Task<absl::StatusOr<std::unique_ptr<ByteStream>>> OpenLegacyStream(
    core::Reactor& reactor, std::vector<LegacyClient*> channels, proto::Target target, core::Slice first);

}  // namespace tunnel::net
