// Datagrams of the simulated network.
#include <netinet/in.h>

#include <algorithm>

#include "core/check.h"
#include "core/limits.h"
#include "core/sim_sockets.h"
#include "core/sim_world.h"

namespace tunnel::core {
namespace {

// What IP leaves for a UDP payload.
constexpr size_t kMostPayloadV4 = 65507;
constexpr size_t kMostPayloadV6 = 65527;

}  // namespace

int SimNetwork::OpenDatagram(SimHost host, const SocketAddress& address, int& descriptor) {
  if (!HasAddress(host, address)) return EADDRNOTAVAIL;
  if (address.port() != 0 && !BoundTo(host, address, true).empty()) return EADDRINUSE;
  const uint16_t port = address.port() != 0 ? address.port() : FreePort(host, address.family(), true);
  if (const int error = Allocate(host, descriptor); error != 0) return error;
  Socket& socket = At(descriptor);
  socket.kind = Socket::Kind::kDatagram;
  socket.family = address.family();
  socket.local = address;
  socket.local.set_port(port);
  return 0;
}

int SimNetwork::ConnectDatagram(int descriptor, const SocketAddress& peer) {
  Socket& socket = At(descriptor);
  SocketAddress source = SourceFor(socket.host, peer);
  if (!source.valid()) return ENETUNREACH;
  socket.peer = peer;
  // A socket bound to every address now has the one from which it speaks to its peer.
  source.set_port(socket.local.port());
  const std::array<uint8_t, 16> any =
      SocketAddress::Parse(socket.family == AF_INET6 ? "::" : "0.0.0.0", 0)->mapped_bytes();
  if (socket.local.mapped_bytes() == any) socket.local = source;
  return 0;
}

int SimNetwork::SendDatagram(int descriptor, const SocketAddress* to, std::span<const uint8_t> payload) {
  Socket& socket = At(descriptor);
  const SocketAddress target = to != nullptr ? *to : socket.peer;
  if (!target.valid()) return EDESTADDRREQ;
  if (payload.size() > (target.is_v6() ? kMostPayloadV6 : kMostPayloadV4)) return EMSGSIZE;
  SocketAddress from = SourceFor(socket.host, target);
  if (!from.valid()) return ENETUNREACH;
  from.set_port(socket.local.port());
  const std::optional<SimHost> host = HostOf(target, socket.host);
  const SimLink link = host.has_value() ? LinkOf(socket.host, *host).link : SimLink();
  SimRandom& random = world_.random();
  int copies = host.has_value() ? 1 : 0;
  if (copies > 0 && random.Chance(link.datagram_copies)) ++copies;
  if (copies > 0 && random.Chance(link.datagram_loss)) {
    --copies;
    world_.Count(SimFault::kLostDatagram);
  }
  if (host.has_value() && *host != socket.host && (hosts_[Index(*host)].frozen || hosts_[Index(socket.host)].frozen)) {
    copies = 0;
  }
  world_.Trace(SimEvent::kDatagram, socket.serial, payload.size(), static_cast<uint64_t>(copies));
  if (copies == 0) return 0;
  const auto bytes = std::make_shared<std::vector<uint8_t>>(payload.begin(), payload.end());
  for (; copies > 0; --copies) {
    // With jitter one may overtake another, as on the real network.
    world_.At(Arrival(socket.host, *host, bytes->size()),
              [this, sender = socket.serial, from_host = socket.host, host, from, target, bytes] {
                ArriveDatagram(from_host, *host, sender, from, target, bytes);
              });
  }
  return 0;
}

void SimNetwork::ArriveDatagram(SimHost from_host, SimHost to_host, uint64_t sender, const SocketAddress& from,
                                const SocketAddress& to, const std::shared_ptr<std::vector<uint8_t>>& payload) {
  bool somebody = false;
  for (Socket* socket : BoundTo(to_host, to, true)) {
    if (socket->peer.valid() && !(socket->peer == from)) continue;
    somebody = true;
    // As the kernel counts, small datagrams cost more than their bytes.
    constexpr size_t kOverhead = 512;
    if (socket->inbox_bytes + payload->size() + kOverhead > kDatagramSocketBufferBytes) break;
    socket->inbox_bytes += payload->size() + kOverhead;
    socket->inbox.push_back({.from = from, .payload = payload});
    Notify(socket, true, false);
    break;
  }
  if (somebody) return;
  // An ICMP message goes back, and reaches a socket that is connected to where it comes from.
  world_.At(Arrival(to_host, from_host, 0), [this, from_host, sender, from, to] {
    for (Socket* socket : BoundTo(from_host, from, true)) {
      if (socket->serial != sender || !(socket->peer == to)) continue;
      socket->error = ECONNREFUSED;
      Notify(socket, true, true);
    }
  });
}

int SimNetwork::ReceiveDatagram(int descriptor, std::span<uint8_t> out, size_t& got, SocketAddress& from,
                                bool& truncated) {
  Socket& socket = At(descriptor);
  if (socket.error != 0) return std::exchange(socket.error, 0);
  if (socket.inbox.empty()) return EAGAIN;
  const Socket::Datagram datagram = std::move(socket.inbox.front());
  socket.inbox.pop_front();
  constexpr size_t kOverhead = 512;
  socket.inbox_bytes -= datagram.payload->size() + kOverhead;
  got = std::min(out.size(), datagram.payload->size());
  std::copy_n(datagram.payload->data(), got, out.data());
  from = datagram.from;
  truncated = got < datagram.payload->size();
  return 0;
}

}  // namespace tunnel::core
