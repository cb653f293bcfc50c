// The server of ws_echo: one core's listener and its connections.
#pragma once

#include <absl/container/flat_hash_map.h>

#include <memory>
#include <string>
#include <vector>

#include "bench/ws_echo_session.h"
#include "net/core_service.h"
#include "net/http_reader.h"
#include "net/tls_context.h"

namespace tunnel::bench {

inline constexpr std::string_view kCountingProtocol = "dumb-increment-protocol";

struct EchoServerOptions {
  net::ListenSpec listen;        // ws:// or wss://
  std::string certificate_file;  // wss://
  std::string key_file;          // wss://
  // The first of a client's that is among them is taken; kCountingProtocol counts besides.
  std::vector<std::string> subprotocols;
  core::SocketAddress bound;  // where core 0 listens, for the others
};

class EchoServer final : public net::TunnelService, core::Attention {
 public:
  // `options` must outlive the server; core 0 writes `bound`.
  EchoServer(core::Reactor& reactor, EchoServerOptions& options) : TunnelService(reactor), options_(options) {}
  ~EchoServer() override;

  [[nodiscard]] absl::Status Start(bool share_port);

 private:
  void CloseChannels() override;
  [[nodiscard]] bool HasLingeringStreams() const override { return false; }
  [[nodiscard]] bool HasChannels() const override { return !sessions_.empty(); }

  [[nodiscard]] core::Task<void> Serve(core::StreamSocket socket);
  // Answers one request, and starts a session when it is an upgrade.
  [[nodiscard]] core::Task<void> Upgrade(std::unique_ptr<net::ByteStream> stream);
  void StartSession(std::unique_ptr<net::ByteStream> stream, core::Slice received, bool counting);
  void Attend() override;

  EchoServerOptions& options_;
  std::unique_ptr<net::TlsServerContext> tls_;
  absl::flat_hash_map<uint64_t, std::unique_ptr<EchoSession>> sessions_;
  std::vector<uint64_t> down_;
  uint64_t next_number_ = 1;
};

}  // namespace tunnel::bench
