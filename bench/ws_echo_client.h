// The client of ws_echo: dials a WebSocket server and does one of three things with the connection.
#pragma once

#include <string>
#include <vector>

#include "core/reactor.h"
#include "core/task.h"
#include "proto/url.h"
#include "proto/websocket.h"

namespace tunnel::bench {

struct EchoClientOptions {
  enum class Mode {
    kVerify,   // sends messages and wants each back as it was
    kEcho,     // sends back what comes, until the server ends it
    kReceive,  // takes `messages` messages, printing each, and closes
  };
  proto::Url url;       // ws:// or wss://
  std::string server;   // the address to dial; empty: the host of the URL, which then is one
  std::string ca_file;  // wss://
  std::string subprotocol;
  Mode mode = Mode::kVerify;
  uint64_t messages = 1;
  std::vector<size_t> sizes = {64};                                                   // of the messages sent, in turn
  std::vector<proto::Opcode> kinds = {proto::Opcode::kText, proto::Opcode::kBinary};  // in turn
  uint64_t window = 1;                                                                // messages under way
};

// Runs to the end of the connection. Ok: everything was as it should be, and the closing handshake was done. The
// result is one line of figures.
[[nodiscard]] core::Task<absl::StatusOr<std::string>> RunEchoClient(core::Reactor& reactor, EchoClientOptions options);

}  // namespace tunnel::bench
