// One pre-dialled channel of a client: dialled, kept, and dialled again when it is lost.
#pragma once

#include <memory>

#include "core/task.h"
#include "net/legacy_client.h"
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
  // Held while dialling: channels come up one after another.
  bool dialling = false;
  core::Event dial_done;
  // Called when a channel went up or down.
  absl::AnyInvocable<void()> changed;
};

class ClientChannel {
 public:
  // `number` counts from 1 over the whole process. With `only_address` the channel goes there and nowhere else.
  ClientChannel(ChannelContext& context, unsigned number, std::optional<core::SocketAddress> only_address)
      : context_(context), number_(number), only_address_(only_address) {}

  // Dials and keeps the channel until the task is cancelled. One call.
  [[nodiscard]] core::Task<void> Keep();
  // The carrier while the channel is up, else nullptr.
  [[nodiscard]] LegacyClient* carrier() const { return carrier_.get(); }
  // Says goodbye to the server, if it is there.
  void Close();

 private:
  [[nodiscard]] core::Task<absl::Status> DialInTurn();
  [[nodiscard]] core::Task<absl::Status> Dial();
  [[nodiscard]] core::Task<absl::StatusOr<std::unique_ptr<TlsStream>>> ConnectTls(
      std::vector<core::SocketAddress> addresses, std::optional<ech::ConfigToUse> config);
  [[nodiscard]] core::Task<absl::Status> Upgrade(std::unique_ptr<TlsStream> stream, std::string description);
  void OnDown(const absl::Status& reason);

  ChannelContext& context_;
  const unsigned number_;
  const std::optional<core::SocketAddress> only_address_;
  std::unique_ptr<WebSocket> socket_;
  std::unique_ptr<LegacyClient> carrier_;  // refers to socket_
  core::Event down_;
  absl::Status down_reason_;
  TlsFailure last_failure_;
};

}  // namespace tunnel::net
