#include "net/proxy_listener.h"

#include <memory>
#include <optional>

#include "core/log.h"
#include "net/byte_reader.h"
#include "net/http_proxy.h"
#include "net/limits.h"
#include "net/socks_negotiation.h"
#include "net/tcp_stream.h"
#include "proto/http1_grammar.h"

namespace tunnel::net {
namespace {

using core::Slice;

void Refuse(ByteReader& reader, ByteStream& stream) {
  reader.Detach();
  stream.CloseAfterSend(kCloseLimit);
}

// CONNECT of either version.
core::Task<void> ServeSocksConnect(core::Reactor& reactor, std::unique_ptr<ByteStream> stream, ByteReader& reader,
                                   SocksRequest request, const ListenSpec& spec, StreamOpener& opener,
                                   RelaySet& relays) {
  const std::string name = proto::ToString(request.target);
  auto opened = co_await opener.Open(std::move(request.target), std::move(request.first));
  SendSocksReply(reactor, *stream, request.version, opened.status());
  if (!opened.ok()) {
    spdlog::debug("{}: {}: {}", spec.description, name, MessageOf(opened.status()));
    Refuse(reader, *stream);
    co_return;
  }
  for (Slice& slice : reader.TakeReceived()) (*opened)->Send(std::move(slice));
  if (!reader.dead().ok()) co_return;
  const bool ended = reader.ended();
  reader.Detach();
  if (ended) (*opened)->FinishSend();
  relays.Start(*std::move(opened), std::move(stream), ended);
}

}  // namespace

core::Task<void> ServeProxy(core::Reactor& reactor, core::StreamSocket socket, const ListenSpec& spec,
                            StreamOpener& opener, RelaySet& relays, UdpAssociateSet& associations) {
  const core::SocketAddress local = socket.local_address();
  const core::SocketAddress peer = socket.peer_address();
  std::unique_ptr<ByteStream> stream = std::make_unique<TcpStream>(std::move(socket));
  std::optional<core::CountGuard> counted(std::in_place, reactor.counters().handshakes_in_progress);
  ByteReader reader(*stream);
  std::optional<SocksRequest> request;
  bool http = false;
  {
    core::TaskContext& context = co_await core::CurrentTask();
    const core::DeadlineGuard deadline(context, kNegotiationLimit);
    auto first = co_await reader.Read();
    if (!first.ok() || first->empty()) {
      Refuse(reader, *stream);
      co_return;
    }
    const uint8_t version = first->bytes()[0];
    reader.Unread(*std::move(first));
    http = proto::IsTokenChar(static_cast<char>(version));
    if (version == proto::kSocks5Version) {
      request = co_await NegotiateSocks5(reactor, *stream, reader, spec);
    } else if (version == proto::kSocks4Version) {
      request = co_await NegotiateSocks4(reactor, *stream, reader, spec);
    }
  }
  if (http) {
    counted.reset();  // the HTTP proxy counts for itself, request by request
    std::deque<Slice> received = reader.TakeReceived();
    const bool ended = reader.ended();
    if (!reader.dead().ok()) co_return;
    reader.Detach();
    const HttpProxyContext http_context{.reactor = reactor, .spec = spec, .opener = opener, .relays = relays};
    co_await ServeHttpProxy(http_context, std::move(stream), std::move(received), ended);
    co_return;
  }
  if (!request.has_value()) {
    Refuse(reader, *stream);
    co_return;
  }
  switch (request->command) {
    case proto::Socks5Command::kConnect:
      co_await ServeSocksConnect(reactor, std::move(stream), reader, *std::move(request), spec, opener, relays);
      break;
    case proto::Socks5Command::kUdpAssociate:
      if (reader.ended() || !reader.dead().ok()) co_return;
      reader.Detach();
      associations.Start(std::move(stream), local, peer, request->target);
      break;
  }
}

}  // namespace tunnel::net
