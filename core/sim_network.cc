#include "core/sim_network.h"

#include <netinet/in.h>

#include <algorithm>

#include "core/check.h"
#include "core/sim_sockets.h"
#include "core/sim_world.h"

namespace tunnel::core {
namespace {

constexpr uint16_t kFirstEphemeralPort = 32768;
constexpr uint16_t kLastEphemeralPort = 60999;

bool IsLoopback(const SocketAddress& address) {
  if (address.is_unix()) return true;
  const std::array<uint8_t, 16> bytes = address.mapped_bytes();
  static constexpr std::array<uint8_t, 16> kV6 = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
  return address.is_v6() ? bytes == kV6 : bytes[12] == 127;
}

bool IsWildcard(const SocketAddress& address) {
  if (address.is_unix()) return false;
  const std::array<uint8_t, 16> bytes = address.mapped_bytes();
  const auto first = bytes.begin() + (address.is_v6() ? 0 : 12);
  return std::all_of(first, bytes.end(), [](uint8_t byte) { return byte == 0; });
}

bool SameIp(const SocketAddress& one, const SocketAddress& other) {
  return one.family() == other.family() && one.mapped_bytes() == other.mapped_bytes();
}

}  // namespace

SimNetwork::SimNetwork(SimWorld& world, size_t stream_buffer_bytes)
    : world_(world), stream_buffer_bytes_(stream_buffer_bytes) {}

SimNetwork::~SimNetwork() = default;

SimHost SimNetwork::AddHost(const std::vector<SocketAddress>& addresses) {
  hosts_.push_back({.addresses = addresses, .limit = {}});
  return static_cast<SimHost>(hosts_.size() - 1);
}

void SimNetwork::SetLink(SimHost one, SimHost other, const SimLink& link) {
  LinkOf(one, other).link = link;
  LinkOf(other, one).link = link;
}

void SimNetwork::SetDescriptorsLeft(SimHost host, std::optional<size_t> left) {
  Host& at = hosts_[Index(host)];
  at.limit = left.has_value() ? std::optional(at.descriptors + *left) : std::nullopt;
}

// --- descriptors ---

SimNetwork::Socket& SimNetwork::At(int descriptor) const {
  const auto index = static_cast<size_t>(descriptor - kFirstSimDescriptor);
  TUNNEL_CHECK(descriptor >= kFirstSimDescriptor && index < sockets_.size() && sockets_[index] != nullptr);
  return *sockets_[index];
}

bool SimNetwork::is_open(int descriptor) const {
  const auto index = static_cast<size_t>(descriptor - kFirstSimDescriptor);
  return descriptor >= kFirstSimDescriptor && index < sockets_.size() && sockets_[index] != nullptr;
}

int SimNetwork::Allocate(SimHost host, int& descriptor) {
  Host& at = hosts_[Index(host)];
  if (at.limit.has_value() && at.descriptors >= *at.limit) return EMFILE;
  // The lowest that is free, as the kernel does: a number comes back soon, to whoever has kept it.
  size_t index = 0;
  while (index < sockets_.size() && sockets_[index] != nullptr) ++index;
  if (index == sockets_.size()) sockets_.emplace_back();
  sockets_[index] = std::make_unique<Socket>();
  Socket& socket = *sockets_[index];
  socket.host = host;
  socket.descriptor = kFirstSimDescriptor + static_cast<int>(index);
  socket.serial = ++serials_;
  ++at.descriptors;
  ++open_sockets_;
  descriptor = socket.descriptor;
  world_.Trace(SimEvent::kOpen, socket.serial, Index(host), index);
  return 0;
}

int SimNetwork::OpenStream(SimHost host, int family, int& descriptor) {
  if (const int error = Allocate(host, descriptor); error != 0) return error;
  At(descriptor).family = family;
  return 0;
}

void SimNetwork::Watch(int descriptor, SimWatcher* watcher) { At(descriptor).watcher = watcher; }

void SimNetwork::Notify(const Socket* socket, bool in, bool out) const {
  if (socket != nullptr && socket->watcher != nullptr) socket->watcher->OnSocketReady(socket->descriptor, in, out);
}

bool SimNetwork::WouldReceive(int descriptor) const {
  const Socket& socket = At(descriptor);
  if (socket.kind == Socket::Kind::kListener) return !socket.backlog.empty();
  if (socket.kind == Socket::Kind::kDatagram) return socket.error != 0 || !socket.inbox.empty();
  if (socket.connection == nullptr) return true;
  const End& end = socket.end();
  return end.arrived_bytes > 0 || end.error != 0 || end.dead || end.end_arrived || end.receive_shut;
}

uint64_t SimNetwork::SerialOf(int descriptor) const {
  const Socket& socket = At(descriptor);
  const Connection* connection = socket.connection.get();
  return connection != nullptr ? connection->serial : socket.serial;
}

void SimNetwork::Close(int descriptor) {
  Socket& socket = At(descriptor);
  socket.watcher = nullptr;
  bool reset = false;
  if (socket.connection != nullptr) {
    End& end = socket.end();
    reset = socket.linger_reset || end.arrived_bytes > 0;
    end.descriptor = -1;
    CloseEnd(socket.connection, socket.side, reset);
  }
  for (const ConnectionPointer& waiting : socket.backlog) CloseEnd(waiting, 1, true);
  world_.Trace(SimEvent::kClose, socket.serial, Index(socket.host), reset ? 1 : 0);
  --hosts_[Index(socket.host)].descriptors;
  --open_sockets_;
  sockets_[static_cast<size_t>(descriptor - kFirstSimDescriptor)].reset();
}

SocketAddress SimNetwork::LocalAddress(int descriptor) const {
  const Socket& socket = At(descriptor);
  return socket.connection != nullptr ? socket.end().address : socket.local;
}

SocketAddress SimNetwork::PeerAddress(int descriptor) const {
  const Socket& socket = At(descriptor);
  if (socket.connection == nullptr) return socket.peer;
  return socket.connection->ends[static_cast<size_t>(1 - socket.side)].address;
}

// --- addresses ---

bool SimNetwork::HasAddress(SimHost host, const SocketAddress& address) const {
  if (IsLoopback(address) || IsWildcard(address)) return true;
  const std::vector<SocketAddress>& own = hosts_[Index(host)].addresses;
  return std::any_of(own.begin(), own.end(), [&](const SocketAddress& a) { return SameIp(a, address); });
}

std::optional<SimHost> SimNetwork::HostOf(const SocketAddress& address, SimHost from) const {
  if (HasAddress(from, address)) return from;
  for (size_t i = 0; i < hosts_.size(); ++i) {
    if (HasAddress(static_cast<SimHost>(i), address)) return static_cast<SimHost>(i);
  }
  return std::nullopt;
}

SocketAddress SimNetwork::SourceFor(SimHost host, const SocketAddress& to) const {
  if (to.is_unix()) {
    sockaddr unnamed{};
    unnamed.sa_family = AF_UNIX;
    return SocketAddress::FromKernel(&unnamed, sizeof(sa_family_t));
  }
  SocketAddress loopback = to.is_v6() ? *SocketAddress::Parse("::1", 0) : *SocketAddress::Parse("127.0.0.1", 0);
  if (IsLoopback(to) || IsWildcard(to)) return loopback;
  for (const SocketAddress& own : hosts_[Index(host)].addresses) {
    if (own.family() == to.family()) return own;
  }
  return {};
}

std::vector<SimNetwork::Socket*> SimNetwork::BoundTo(SimHost host, const SocketAddress& address, bool datagram) const {
  std::vector<Socket*> found;
  const Socket::Kind kind = datagram ? Socket::Kind::kDatagram : Socket::Kind::kListener;
  for (const std::unique_ptr<Socket>& socket : sockets_) {
    if (socket == nullptr || socket->kind != kind || socket->host != host) continue;
    const SocketAddress& local = socket->local;
    if (address.is_unix() ? local == address
                          : local.family() == address.family() && local.port() == address.port() &&
                                (SameIp(local, address) || IsWildcard(local) || IsWildcard(address))) {
      found.push_back(socket.get());
    }
  }
  return found;
}

uint16_t SimNetwork::FreePort(SimHost host, int family, bool datagram) {
  SocketAddress probe = *SocketAddress::Parse(family == AF_INET6 ? "::" : "0.0.0.0", 0);
  uint16_t& next = hosts_[Index(host)].next_port;
  for (;;) {
    next = next >= kLastEphemeralPort ? kFirstEphemeralPort : static_cast<uint16_t>(next + 1);
    probe.set_port(next);
    if (BoundTo(host, probe, datagram).empty()) return next;
  }
}

int SimNetwork::Listen(int descriptor, const SocketAddress& address, bool share_port) {
  Socket& socket = At(descriptor);
  int error = 0;
  SocketAddress bound = address;
  if (!HasAddress(socket.host, address)) {
    error = EADDRNOTAVAIL;
  } else if (!address.is_unix() && address.port() == 0) {
    bound.set_port(FreePort(socket.host, address.family(), false));
  } else {
    for (const Socket* other : BoundTo(socket.host, address, false)) {
      if (!share_port || !other->share_port) error = EADDRINUSE;
    }
  }
  world_.Trace(SimEvent::kListen, socket.serial, bound.port(), static_cast<uint64_t>(error));
  if (error != 0) return error;
  socket.kind = Socket::Kind::kListener;
  socket.local = bound;
  socket.share_port = share_port;
  return 0;
}

// --- links ---

TimePoint SimNetwork::Arrival(SimHost from, SimHost to, size_t bytes) {
  if (from == to) return world_.now();
  LinkState& state = LinkOf(from, to);
  TimePoint leaves = world_.now();
  if (state.link.bytes_per_second != 0) {
    leaves = std::max(leaves, state.busy_until) +
             Duration(static_cast<int64_t>(bytes * uint64_t{1'000'000'000} / state.link.bytes_per_second));
    state.busy_until = leaves;
  }
  const auto jitter = static_cast<uint64_t>(state.link.jitter.count());
  return leaves + state.link.latency + Duration(static_cast<int64_t>(world_.random().Below(jitter)));
}

void SimNetwork::FreezeHost(SimHost host) {
  hosts_[Index(host)].frozen = true;
  world_.Trace(SimEvent::kFreeze, Index(host), 0, 0);
}

void SimNetwork::ThawHost(SimHost host) {
  hosts_[Index(host)].frozen = false;
  world_.Trace(SimEvent::kThaw, Index(host), 0, 0);
  const std::map<uint64_t, ConnectionPointer> all = connections_;
  for (const auto& [serial, connection] : all) ReleaseHeld(connection);
}

}  // namespace tunnel::core
