// The channels of one core of a client, and opening streams over them: on those that speak mux/2 where there are any,
// else by the legacy race.
#pragma once

#include <memory>
#include <vector>

#include "net/client_channel.h"
#include "net/datagram_opener.h"
#include "net/stream_opener.h"

namespace tunnel::net {

class ClientPool final : public StreamOpener, public DatagramOpener {
 public:
  // Stream ids of the first session begin at `first_stream_id`.
  ClientPool(core::Reactor& reactor, const Config& config, const TlsClientContext& tls, ServerDirectory& directory,
             uint32_t first_stream_id = 1);

  // Adds a channel and dials it in `scope`.
  void AddChannel(core::Scope& scope, unsigned number, std::optional<core::SocketAddress> only_address);

  // Waits for a first channel when none is up.
  [[nodiscard]] core::Task<absl::StatusOr<std::unique_ptr<ByteStream>>> Open(proto::Target target,
                                                                             core::Slice first) override;
  // Ahead over mux/2 where a channel is up.
  [[nodiscard]] core::Task<absl::StatusOr<std::unique_ptr<ByteStream>>> OpenAhead(proto::Target target) override;

  // Each target goes over a channel of its own choosing, in turn; those that are full are passed over.
  [[nodiscard]] absl::StatusOr<std::unique_ptr<DatagramAssociation>> Open(DatagramAssociation::Handler& handler,
                                                                          SenderFilter filter) override;

  [[nodiscard]] unsigned channels_up() const;
  // There are channels, and none speaks mux/2.
  [[nodiscard]] bool only_legacy() const;
  // What is opened now is of it; `began` is called with each that takes its place.
  [[nodiscard]] MuxClientSession& session() { return *sessions_.back(); }
  void SetSessionBegan(std::function<void(MuxClientSession&)> began) { session_began_ = std::move(began); }
  // As TunnelService says; `settled` is called when there is none any more.
  [[nodiscard]] bool HasLingeringStreams() const;
  void SetSettled(std::function<void()> settled) { settled_ = std::move(settled); }
  // Ends the streams that are left, and starts the closing handshake on every channel.
  void CloseChannels();
  // Called, from the reactor's turn, when channels went up or down.
  void SetChanged(absl::AnyInvocable<void(unsigned channels_up)> changed) { changed_ = std::move(changed); }

 private:
  class Datagrams;

  // Begins a session: what is opened from now on is opened there, as soon as it has a channel.
  void NewSession(uint32_t first_stream_id);
  // Where a stream is to be opened over mux/2.
  [[nodiscard]] MuxRoute Choose();
  [[nodiscard]] std::vector<LegacyClient*> LegacyUp() const;
  // Over mux/2 or the legacy protocol.
  [[nodiscard]] std::unique_ptr<DatagramAssociation> MakeDatagrams(bool native, DatagramAssociation::Handler& handler);
  [[nodiscard]] LegacyClient* ChooseForDatagrams();

  core::Reactor& reactor_;
  MuxBudget budget_;
  // The last is the current one. Those before it have used up their ids: one in two thousand million streams.
  std::vector<std::unique_ptr<MuxClientSession>> sessions_;
  std::function<void()> settled_;
  std::function<void(MuxClientSession&)> session_began_;
  ChannelContext context_;
  std::vector<std::unique_ptr<ClientChannel>> channels_;
  size_t next_for_datagrams_ = 0;
  uint64_t changes_ = 0;  // how often a channel went up or down
  core::Event some_up_;
  absl::AnyInvocable<void(unsigned)> changed_;
};

}  // namespace tunnel::net
