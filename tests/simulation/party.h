// One end of one stream of a simulated run: an application or a target, that sends what its plan says and checks every
// byte it gets.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "core/stream_socket.h"
#include "core/timers.h"
#include "proto/socks5_client.h"
#include "stream_plan.h"

namespace tunnel::simulation {

// What became of a party.
struct PartyRecord {
  bool connected = false;
  bool granted = false;  // application: what it asked for was granted, as far as it can tell
  uint64_t sent = 0;
  uint64_t received = 0;
  bool ended = false;     // heard the other's end, in order
  bool finished = false;  // ended its own side
  bool left = false;      // went as its plan said
  std::optional<core::IoError> error;
  bool over = false;
  std::string wrong;  // a byte that should not have been there; empty when all were right
  // The ends of its connection, to ask whether a fault hit it.
  core::SocketAddress local;
  core::SocketAddress peer;

  [[nodiscard]] std::string Describe() const;
};

class Party final : core::StreamSocket::Handler {
 public:
  // `to_application`: this is the application. `expected`: bytes the other sends. With `request` it asks for that
  // target by SOCKS5 first.
  Party(core::Reactor& reactor, core::StreamSocket socket, const StreamPlan& plan, bool is_application,
        std::optional<proto::Target> request);
  Party(const Party&) = delete;
  Party& operator=(const Party&) = delete;

  [[nodiscard]] const PartyRecord& record() const { return record_; }
  // Goes away at once, for the end of a run.
  void Drop() { Leave(true); }

 private:
  void OnReceive(core::Slice data) override;
  void OnReceiveEnd() override;
  void OnSendDrained() override { Progress(); }
  void OnSocketError(core::IoError error) override;

  void Negotiate(core::Slice data);
  void Take(std::span<const uint8_t> bytes);
  // Sends what may be sent, and ends or leaves when it is time.
  void Progress();
  [[nodiscard]] uint64_t MaySend() const;
  void Leave(bool reset);

  core::Reactor& reactor_;
  core::StreamSocket socket_;
  const PartyPlan plan_;
  const uint64_t expected_;
  const uint64_t send_key_;
  const uint64_t receive_key_;
  std::optional<proto::Socks5Client> request_;
  uint64_t since_pause_ = 0;
  core::Timer pause_;
  PartyRecord record_;
};

}  // namespace tunnel::simulation
