// The server's end of a legacy channel: requests become connections to targets.
#pragma once

#include "core/task.h"
#include "net/legacy_carrier.h"
#include "net/legacy_server_datagrams.h"
#include "net/relay.h"
#include "net/target_connector.h"

namespace tunnel::net {

class LegacyServer final : public LegacyCarrier {
 public:
  // `connector`, `datagrams`, `relays` and `scope` belong to the core and outlive every channel; connects in progress
  // run in `scope` and may outlive this channel.
  LegacyServer(core::Reactor& reactor, WebSocket& socket, TargetConnector& connector, DatagramOpener& datagrams,
               RelaySet& relays, core::Scope& scope, Down down)
      : LegacyCarrier(reactor, socket, proto::Role::kServer, std::move(down)),
        connector_(connector),
        relays_(relays),
        scope_(scope),
        datagrams_(*this, datagrams) {}

 private:
  void OnHead(const proto::LegacyHead& head) override;
  void OnPayload(core::Slice piece) override;
  void OnMessageComplete() override;
  void OnMalformed(const proto::LegacyHead& head) override;
  void OnUnknownStream(const proto::LegacyHead& head) override;
  void OnChannelDown(const absl::Status& reason) override {
    (void)reason;
    datagrams_.Clear();
  }

  TargetConnector& connector_;
  RelaySet& relays_;
  core::Scope& scope_;
  // The TCP request whose message is being read.
  std::unique_ptr<LegacyStream> requested_;
  proto::Target target_;
  LegacyServerDatagrams datagrams_;
  bool reading_datagram_ = false;
};

}  // namespace tunnel::net
