// One pre-dialled channel of a client: dialled, kept, replaced before a middlebox would cut it, and dialled again when
// it is lost.
#pragma once

#include <memory>

#include "core/task.h"
#include "net/legacy_client.h"
#include "net/mux_channel.h"
#include "net/mux_client_session.h"
#include "net/server_directory.h"
#include "net/tls_context.h"
#include "net/tls_stream.h"

namespace tunnel::net {

// What the channels of one core share.
struct ChannelContext {
  core::Reactor& reactor;
  const Config& config;
  const TlsClientContext& tls;
  ServerDirectory& directory;
  // What the channels that speak mux/2 carry together: those dialled from now on.
  MuxClientSession* session;
  // Held while dialling: channels come up one after another.
  bool dialling = false;
  core::Event dial_done;
  // Called when a channel went up or down.
  absl::AnyInvocable<void()> changed;
  // Set while streams wait for a channel.
  core::Event stranded;
  // It was said that the server speaks the legacy protocol.
  bool legacy_said = false;
};

class ClientChannel {
 public:
  // `number` counts from 1 over the whole process. With `only_address` the channel goes there and nowhere else.
  ClientChannel(ChannelContext& context, unsigned number, std::optional<core::SocketAddress> only_address)
      : context_(context), number_(number), only_address_(only_address) {}

  // Dials and keeps the channel until the task is cancelled. One call.
  [[nodiscard]] core::Task<void> Keep();
  // Up, whatever it speaks.
  [[nodiscard]] bool up() const { return link_ != nullptr && link_->up; }
  // The carrier while the channel is up and speaks the legacy protocol, else nullptr.
  [[nodiscard]] LegacyClient* legacy() const { return up() ? link_->legacy : nullptr; }
  // The connection that is up is to be replaced; it goes on until what it carries has moved or ended.
  void Renew();
  // Its connection, as it is now, is `channel`.
  [[nodiscard]] bool Is(const MuxChannel& channel) const { return link_ != nullptr && link_->mux == &channel; }
  // Says goodbye to the server, if it is there.
  void Close();

 private:
  // One connection that became a channel.
  struct Link {
    explicit Link(std::unique_ptr<WebSocket> s) : socket(std::move(s)) {}
    std::unique_ptr<WebSocket> socket;
    std::unique_ptr<Carrier> carrier;     // refers to socket
    LegacyClient* legacy = nullptr;       // what it is, or ...
    MuxChannel* mux = nullptr;            // ... this
    MuxClientSession* session = nullptr;  // of mux
    bool up = false;
    core::Event changed;  // it went down, or is to be replaced
  };

  // Makes link_; what it was is the last of retired_ then.
  [[nodiscard]] core::Task<absl::Status> DialInTurn();
  [[nodiscard]] core::Task<absl::StatusOr<std::unique_ptr<Link>>> Dial();
  // Connects, and sends `first_flight` as soon as the server may have it.
  [[nodiscard]] core::Task<absl::StatusOr<std::unique_ptr<TlsStream>>> ConnectTls(
      std::vector<core::SocketAddress> addresses, std::optional<ech::ConfigToUse> config, std::string first_flight);
  // Waits for the answer to the request with `key`.
  [[nodiscard]] core::Task<absl::StatusOr<std::unique_ptr<Link>>> Upgrade(std::unique_ptr<TlsStream> stream,
                                                                          std::string key, MuxClientSession& session,
                                                                          std::string description);
  // Waits before the next attempt. Not Ok when the task was cancelled.
  [[nodiscard]] core::Task<absl::Status> Pause(core::Duration delay);
  // Waits until the channel is down, and replaces it when it has its age or is asked to. Not Ok when the task was
  // cancelled.
  [[nodiscard]] core::Task<absl::Status> KeepUp();
  // Dials another connection and moves to it what can be moved. Ok when that was done.
  [[nodiscard]] core::Task<absl::Status> Replace();
  void OnDown(Link& link, const absl::Status& reason);

  ChannelContext& context_;
  const unsigned number_;
  const std::optional<core::SocketAddress> only_address_;
  std::unique_ptr<Link> link_;
  // Those before it: they carry what could not be moved, say goodbye, or are over.
  std::vector<std::unique_ptr<Link>> retired_;
  TlsFailure last_failure_;
};

}  // namespace tunnel::net
