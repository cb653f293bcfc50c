#include "net/upstream_proxy.h"

#include <algorithm>

#include "core/log.h"
#include "net/connect_race.h"
#include "net/limits.h"
#include "net/tcp_stream.h"

namespace tunnel::net {

using proto::Socks5ClientEvent;

core::Task<UpstreamAnswer> NegotiateSocks5Client(core::Reactor& reactor, ByteStream& stream, ByteReader& reader,
                                                 std::optional<proto::Credentials> credentials,
                                                 proto::Socks5Command command, proto::Target target) {
  proto::Socks5Client client(command, target, credentials);
  core::Slice input;
  UpstreamAnswer answer;
  for (;;) {
    Socks5ClientEvent event = client.Next();
    switch (event.kind) {
      case Socks5ClientEvent::Kind::kSend:
        stream.Send(reactor.buffers().Copy(event.send));
        break;
      case Socks5ClientEvent::Kind::kNeedMore: {
        auto data = co_await reader.Read();
        if (!data.ok()) {
          answer.status = data.status();
          co_return std::move(answer);
        }
        if (data->empty()) {
          answer.status = Unavailable("the proxy closed the connection before it answered");
          co_return std::move(answer);
        }
        input = *std::move(data);
        client.Feed(input.bytes());
        break;
      }
      case Socks5ClientEvent::Kind::kDone:
        answer.bound = std::move(event.bound);
        if (client.consumed() < input.size()) {
          reader.Unread(input.Share(client.consumed(), input.size() - client.consumed()));
        }
        co_return std::move(answer);
      case Socks5ClientEvent::Kind::kError:
        answer.status = std::move(event.error);
        answer.refused = event.refused;
        co_return std::move(answer);
    }
  }
}

struct UpstreamProxy::Negotiated {
  std::unique_ptr<TcpStream> stream;
  core::SocketAddress proxy;  // the address that was connected to
  proto::Target bound;
};

core::Task<absl::StatusOr<UpstreamProxy::Negotiated>> UpstreamProxy::Negotiate(proto::Socks5Command command,
                                                                               proto::Target target) {
  absl::StatusOr<std::vector<core::SocketAddress>> addresses = std::vector<core::SocketAddress>{proxy_.unix_socket};
  if (!proxy_.unix_socket.valid()) addresses = co_await resolver_.Resolve(proxy_.address.host, proxy_.address.port);
  if (!addresses.ok()) {
    Warn(addresses.status());
    co_return Annotate(addresses.status(), "{}", proxy_.description);
  }
  auto socket = co_await ConnectRace(reactor_, *std::move(addresses), ConnectRaceOptions{});
  if (!socket.ok()) {
    Warn(socket.status());
    co_return Annotate(socket.status(), "{}", proxy_.description);
  }
  Negotiated result;
  result.proxy = socket->peer_address();
  result.stream = std::make_unique<TcpStream>(*std::move(socket));
  ByteReader reader(*result.stream);
  UpstreamAnswer answer =
      co_await NegotiateSocks5Client(reactor_, *result.stream, reader, proxy_.credentials, command, std::move(target));
  if (answer.status.ok()) answer.status = reader.dead();
  if (!answer.status.ok()) {
    if (!answer.refused) Warn(answer.status);
    co_return Annotate(answer.status, "{}", proxy_.description);
  }
  warned_.reset();
  result.bound = std::move(answer.bound);
  std::deque<core::Slice> received = reader.TakeReceived();
  reader.Detach();
  for (; !received.empty(); received.pop_back()) result.stream->PutBack(std::move(received.back()));
  co_return std::move(result);
}

core::Task<absl::StatusOr<std::unique_ptr<ByteStream>>> UpstreamProxy::Connect(proto::Target target) {
  if (!proto::IsValidHost(target.host) || target.port == 0) co_return InvalidArgument("the target is no host and port");
  auto negotiated = co_await Negotiate(proto::Socks5Command::kConnect, std::move(target));
  if (!negotiated.ok()) co_return negotiated.status();
  co_return std::move(negotiated->stream);
}

core::Task<absl::StatusOr<UpstreamAssociation>> UpstreamProxy::Associate() {
  // A variable: g++ 12 destroys an aggregate made inside a co_await expression twice (GCC bug 98401 and its kin).
  proto::Target anywhere{.host = "0.0.0.0", .port = 0};
  auto negotiated = co_await Negotiate(proto::Socks5Command::kUdpAssociate, std::move(anywhere));
  if (!negotiated.ok()) co_return negotiated.status();
  UpstreamAssociation association{.control = std::move(negotiated->stream)};
  const proto::Target& bound = negotiated->bound;
  if (bound.port == 0) co_return ProtocolError("{}: the proxy's relay for datagrams has port 0", proxy_.description);
  if (bound.host == "0.0.0.0" || bound.host == "::") {
    if (negotiated->proxy.is_unix()) {
      co_return ProtocolError("{}: the proxy does not say where its relay for datagrams is", proxy_.description);
    }
    association.relay = negotiated->proxy;
    association.relay.set_port(bound.port);
    co_return std::move(association);
  }
  auto addresses = co_await resolver_.Resolve(bound.host, bound.port);
  if (!addresses.ok()) co_return Annotate(addresses.status(), "{}: the relay for datagrams", proxy_.description);
  association.relay = addresses->front();
  co_return std::move(association);
}

void UpstreamProxy::Warn(const absl::Status& status) {
  if (absl::IsCancelled(status)) return;
  reactor_.counters().outbound_proxy_failures.Add();
  if (warned_.has_value() && reactor_.now() - *warned_ < kProxyWarningInterval) return;
  warned_ = reactor_.now();
  spdlog::warn("no way out through {}: {}", proxy_.description, MessageOf(status));
}

}  // namespace tunnel::net
