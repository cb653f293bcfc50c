// One WebSocket connection that sends back every message as it came: of the server, and of a client told to do so.
#pragma once

#include <absl/functional/any_invocable.h>

#include <memory>
#include <string>

#include "core/reactor.h"
#include "core/timers.h"
#include "net/web_socket.h"

namespace tunnel::bench {

struct EchoCounts {
  uint64_t messages = 0;
  uint64_t bytes = 0;
};

class EchoSession final : public net::WebSocket::Handler {
 public:
  using Down = absl::AnyInvocable<void(const absl::Status& reason)>;

  // Takes over a stream whose upgrade is done. `down` is called once, from the reactor's turn; the session may not be
  // destroyed from it.
  EchoSession(core::Reactor& reactor, std::unique_ptr<net::ByteStream> stream, proto::Role role, Down down);

  // `received` is what came behind the upgrade's head.
  void Start(core::Slice received) { socket_.Start(this, std::move(received)); }
  // Sends 0, 1, 2, ... as text besides, one every `interval`, as libwebsockets' dumb-increment-protocol does.
  void CountUp(core::Duration interval);
  void Close(uint16_t code, std::string_view reason) { socket_.Close(code, reason); }
  [[nodiscard]] const EchoCounts& counts() const { return counts_; }

 private:
  void OnMessageBegin(proto::Opcode opcode) override;
  void OnMessageData(core::Slice piece) override;
  void OnMessageEnd() override;
  void OnWritable() override;
  void OnDown(const absl::Status& reason) override {
    counter_.Cancel();
    down_(reason);
  }

  core::Reactor& reactor_;
  net::WebSocket socket_;
  Down down_;
  proto::Opcode opcode_ = proto::Opcode::kText;
  core::Slice first_;    // a message of one piece is sent from where it lies
  std::string message_;  // one of more
  bool paused_ = false;
  core::Timer counter_;
  core::Duration count_interval_{};
  uint64_t next_count_ = 0;
  EchoCounts counts_;
};

// Sends `message` whole, or in fragments where it is larger than a frame of ours may be.
void SendWhole(net::WebSocket& socket, proto::Opcode opcode, std::span<const uint8_t> message);

}  // namespace tunnel::bench
