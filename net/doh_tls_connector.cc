#include "net/doh_tls_connector.h"

#include "net/connect_race.h"
#include "net/limits.h"
#include "net/tls_stream.h"

namespace tunnel::net {

core::Task<absl::StatusOr<DohConnection>> DohTlsConnector::Connect(std::string host, uint16_t port) {
  auto addresses = co_await resolver_.Resolve(host, port);
  if (!addresses.ok()) co_return Annotate(addresses.status(), "DoH resolver {}", host);
  auto socket = co_await ConnectRace(reactor_, *std::move(addresses), ConnectRaceOptions{});
  if (!socket.ok()) co_return Annotate(socket.status(), "DoH resolver {}", host);
  TlsClientHandshake handshake;
  handshake.host = host;
  auto engine = TlsEngine::Client(tls_, handshake);
  if (!engine.ok()) co_return Annotate(engine.status(), "DoH resolver {}", host);
  auto stream = std::make_unique<TlsStream>(reactor_, *std::move(socket), *std::move(engine));
  const absl::Status shaken = co_await stream->Handshake();
  if (!shaken.ok()) {
    stream->CloseAfterSend(kCloseLimit);  // the alert
    co_return Annotate(shaken, "DoH resolver {}", host);
  }
  DohConnection connection;
  connection.alpn = std::string(stream->engine().alpn());
  connection.stream = std::move(stream);
  co_return std::move(connection);
}

}  // namespace tunnel::net
