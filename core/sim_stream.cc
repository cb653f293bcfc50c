// Connections of the simulated network: from the SYN to the last reset.
#include <algorithm>
#include <utility>

#include "core/check.h"
#include "core/sim_sockets.h"
#include "core/sim_world.h"
#include "core/socket_file.h"

namespace tunnel::core {
namespace {

// As Linux has them: a SYN is sent again after 1, 2, 4, ... seconds and given up after 127; data after about 15
// minutes.
constexpr Duration kFirstSynRetry = std::chrono::seconds(1);
constexpr int kSynRetries = 6;
constexpr Duration kConnectGivesUp = std::chrono::seconds(127);
constexpr Duration kDataGivesUp = std::chrono::seconds(924);
// A SYN, an end, an acknowledgement on the wire.
constexpr size_t kHeaderBytes = 52;

}  // namespace

SimNetwork::ConnectionPointer SimNetwork::Find(uint64_t serial) const {
  const auto found = connections_.find(serial);
  return found == connections_.end() ? nullptr : found->second;
}

void SimNetwork::Forget(const Connection& connection) {
  if (connection.ends[0].closed && connection.ends[1].closed) connections_.erase(connection.serial);
}

// --- packets ---

void SimNetwork::Transmit(const ConnectionPointer& connection, int to, Packet packet) {
  End& from = connection->ends[static_cast<size_t>(1 - to)];
  const SimHost target = connection->ends[static_cast<size_t>(to)].host;
  TimePoint when = Arrival(from.host, target, packet.bytes.size() + kHeaderBytes);
  if (packet.kind == Packet::Kind::kReset) {
    // A reset may overtake what was sent before it, which is then lost.
    if (when < from.last_arrival) {
      const auto span = static_cast<uint64_t>((from.last_arrival - when).count());
      when += Duration(static_cast<int64_t>(world_.random().Between(0, span)));
    }
  } else if (packet.kind != Packet::Kind::kTaken) {
    when = from.last_arrival = std::max(when, from.last_arrival);
  }
  world_.At(when, [this, connection, to, packet = std::move(packet)]() mutable {
    Arrive(connection, to, std::move(packet));
  });
}

void SimNetwork::Arrive(const ConnectionPointer& connection, int to, Packet packet) {
  End& end = connection->ends[static_cast<size_t>(to)];
  const SimHost other = connection->ends[static_cast<size_t>(1 - to)].host;
  const bool frozen =
      end.frozen || (end.host != other && (hosts_[Index(end.host)].frozen || hosts_[Index(other)].frozen));
  if (!frozen && end.held.empty()) {
    ArriveNow(connection, to, packet);
    return;
  }
  end.held.push_back(std::move(packet));
  world_.Trace(SimEvent::kHeld, connection->serial, static_cast<uint64_t>(to), end.held.size());
  if (end.held.size() == 1) GiveUpWhenStillHeld(connection, to);
}

void SimNetwork::GiveUpWhenStillHeld(const ConnectionPointer& connection, int to) {
  const uint64_t releases = connection->ends[static_cast<size_t>(to)].releases;
  world_.After(kDataGivesUp, [this, connection, to, releases] {
    const End& end = connection->ends[static_cast<size_t>(to)];
    End& sender = connection->ends[static_cast<size_t>(1 - to)];
    if (end.held.empty() || end.releases != releases || sender.dead || sender.closed) return;
    Die(*connection, 1 - to, ETIMEDOUT);
  });
}

void SimNetwork::ReleaseHeld(const ConnectionPointer& connection) {
  for (int to = 0; to < 2; ++to) {
    End& end = connection->ends[static_cast<size_t>(to)];
    const SimHost other = connection->ends[static_cast<size_t>(1 - to)].host;
    if (end.frozen || (end.host != other && (hosts_[Index(end.host)].frozen || hosts_[Index(other)].frozen))) continue;
    ++end.releases;
    for (Packet& packet : std::exchange(end.held, {})) ArriveNow(connection, to, packet);
  }
}

void SimNetwork::ArriveNow(const ConnectionPointer& connection, int to, Packet& packet) {
  End& end = connection->ends[static_cast<size_t>(to)];
  const auto which = static_cast<uint64_t>(to);
  switch (packet.kind) {
    case Packet::Kind::kSyn:
      ArriveSyn(connection);
      break;
    case Packet::Kind::kSynAnswer:
      if (end.closed || end.dead) {
        end.dead = true;
        SendReset(connection, to);
        break;
      }
      end.connected = true;
      if (end.descriptor >= 0) Notify(&At(end.descriptor), true, true);
      break;
    case Packet::Kind::kData:
      world_.Trace(SimEvent::kArrive, connection->serial, which, packet.bytes.size());
      if (end.dead || end.closed || end.receive_shut) {
        // Nobody will read it: the sender is told so.
        if (!end.dead) Die(*connection, to, ECONNRESET);
        SendReset(connection, to);
        break;
      }
      if (end.plant == SimPlant::kLoseData || end.plant == SimPlant::kRepeatData) {
        world_.Count(SimFault::kPlanted);
        if (std::exchange(end.plant, SimPlant::kNone) == SimPlant::kLoseData) break;
        end.arrived_bytes += packet.bytes.size();
        end.arrived.push_back(packet.bytes);
      }
      end.arrived_bytes += packet.bytes.size();
      end.arrived.push_back(std::move(packet.bytes));
      if (end.descriptor >= 0) Notify(&At(end.descriptor), true, false);
      break;
    case Packet::Kind::kTaken:
      end.under_way -= std::min(end.under_way, packet.taken);  // what a planted bug repeats was not sent
      if (end.descriptor >= 0) Notify(&At(end.descriptor), false, true);
      break;
    case Packet::Kind::kEnd:
      world_.Trace(SimEvent::kEndArrives, connection->serial, which, 0);
      if (end.plant == SimPlant::kLoseEnd) {
        world_.Count(SimFault::kPlanted);
        break;
      }
      end.end_arrived = true;
      if (end.descriptor >= 0) Notify(&At(end.descriptor), true, false);
      break;
    case Packet::Kind::kReset:
      if (!end.dead) Die(*connection, to, !end.connected ? ECONNREFUSED : end.end_arrived ? EPIPE : ECONNRESET);
      break;
  }
}

void SimNetwork::Die(Connection& connection, int side, int error) {
  End& end = connection.ends[static_cast<size_t>(side)];
  end.dead = true;
  end.error = error;
  world_.Trace(SimEvent::kResetArrives, connection.serial, static_cast<uint64_t>(side), static_cast<uint64_t>(error));
  if (end.descriptor >= 0) Notify(&At(end.descriptor), true, true);
}

void SimNetwork::SendReset(const ConnectionPointer& connection, int from) {
  const End& other = connection->ends[static_cast<size_t>(1 - from)];
  if (!other.dead) Transmit(connection, 1 - from, {.kind = Packet::Kind::kReset, .bytes = {}});
}

void SimNetwork::SendEnd(const ConnectionPointer& connection, int from) {
  End& end = connection->ends[static_cast<size_t>(from)];
  if (end.dead || std::exchange(end.end_sent, true)) return;
  Transmit(connection, 1 - from, {.kind = Packet::Kind::kEnd, .bytes = {}});
}

void SimNetwork::CloseEnd(const ConnectionPointer& connection, int side, bool reset) {
  End& end = connection->ends[static_cast<size_t>(side)];
  end.closed = true;
  if (reset && !end.dead && end.connected) {
    end.dead = true;
    SendReset(connection, side);
  } else if (end.connected) {
    SendEnd(connection, side);
  }
  end.arrived.clear();
  end.arrived_bytes = 0;
  Forget(*connection);
}

// --- connecting ---

int SimNetwork::Connect(int descriptor, const SocketAddress& address) {
  Socket& socket = At(descriptor);
  TUNNEL_CHECK(socket.kind == Socket::Kind::kStream && socket.connection == nullptr);
  int error = EINPROGRESS;
  SocketAddress source = SourceFor(socket.host, address);
  if (!source.valid()) error = ENETUNREACH;
  if (address.is_unix() && BoundTo(socket.host, address, false).empty()) error = ENOENT;
  auto connection = std::make_shared<Connection>();
  connection->serial = ++serials_;
  world_.Trace(SimEvent::kConnect, socket.serial, connection->serial, static_cast<uint64_t>(error));
  if (error != EINPROGRESS) return error;
  if (!source.is_unix()) source.set_port(FreePort(socket.host, source.family(), false));
  const std::optional<SimHost> target = HostOf(address, socket.host);
  connection->asked = address;
  connection->ends[0].host = socket.host;
  connection->ends[0].address = source;
  connection->ends[0].descriptor = descriptor;
  connection->ends[1].host = target.value_or(socket.host);
  connection->ends[1].address = address;
  socket.connection = connection;
  socket.side = 0;
  connections_.emplace(connection->serial, connection);
  if (on_connect_) {
    on_connect_({.serial = connection->serial, .hosts = {connection->ends[0].host, connection->ends[1].host}});
  }
  // Who has no such host between him and it hears nothing.
  if (target.has_value()) Transmit(connection, 1, {.kind = Packet::Kind::kSyn, .bytes = {}});
  world_.After(kConnectGivesUp, [this, connection] {
    const End& end = connection->ends[0];
    if (!end.connected && !end.dead && !end.closed) Die(*connection, 0, ETIMEDOUT);
  });
  return EINPROGRESS;
}

int SimNetwork::ConnectResult(int descriptor) {
  End& end = At(descriptor).end();
  if (end.error != 0) return std::exchange(end.error, 0);
  return end.connected ? 0 : end.dead ? ECONNREFUSED : EINPROGRESS;
}

void SimNetwork::ArriveSyn(const ConnectionPointer& connection) {
  End& end = connection->ends[1];
  const std::vector<Socket*> listeners = BoundTo(end.host, connection->asked, false);
  if (listeners.empty()) {
    end.dead = true;
    end.closed = true;
    SendReset(connection, 1);
    Forget(*connection);
    return;
  }
  Socket& listener = *listeners[world_.random().Below(listeners.size())];
  if (listener.backlog.size() >= static_cast<size_t>(kListenBacklog)) {
    if (connection->attempts++ < kSynRetries) {
      world_.After(kFirstSynRetry * (1 << (connection->attempts - 1)),
                   [this, connection] { Arrive(connection, 1, {.kind = Packet::Kind::kSyn, .bytes = {}}); });
    }
    return;
  }
  end.connected = true;
  listener.backlog.push_back(connection);
  Notify(&listener, true, false);
  Transmit(connection, 0, {.kind = Packet::Kind::kSynAnswer, .bytes = {}});
}

int SimNetwork::Accept(int descriptor, int& accepted) {
  Socket& listener = At(descriptor);
  TUNNEL_CHECK(listener.kind == Socket::Kind::kListener);
  if (listener.backlog.empty()) return EAGAIN;
  if (const int error = Allocate(listener.host, accepted); error != 0) return error;
  Socket& socket = At(accepted);
  socket.family = listener.local.family();
  socket.connection = std::move(listener.backlog.front());
  listener.backlog.pop_front();
  socket.side = 1;
  socket.end().descriptor = accepted;
  world_.Trace(SimEvent::kAccept, listener.serial, socket.connection->serial, socket.serial);
  return 0;
}

std::pair<int, int> SimNetwork::StreamPair(SimHost host) {
  auto connection = std::make_shared<Connection>();
  connection->serial = ++serials_;
  std::array<int, 2> descriptors{};
  for (size_t side = 0; side < 2; ++side) {
    TUNNEL_CHECK(OpenStream(host, AF_INET, descriptors[side]) == 0);
    End& end = connection->ends[side];
    end.host = host;
    end.address = *SocketAddress::Parse("127.0.0.1", FreePort(host, AF_INET, false));
    end.descriptor = descriptors[side];
    end.connected = true;
    At(descriptors[side]).connection = connection;
    At(descriptors[side]).side = static_cast<int>(side);
  }
  connections_.emplace(connection->serial, connection);
  return {descriptors[0], descriptors[1]};
}

// --- bytes ---

int SimNetwork::Send(int descriptor, std::span<const iovec> vectors, size_t limit, size_t& sent) {
  Socket& socket = At(descriptor);
  if (socket.connection == nullptr) return ENOTCONN;
  End& end = socket.end();
  if (end.error != 0) return std::exchange(end.error, 0);
  if (end.dead || end.end_sent || !end.connected) return EPIPE;
  const size_t room = stream_buffer_bytes_ - std::min(stream_buffer_bytes_, end.under_way);
  // As Linux does it (sk_stream_is_writeable): or a full socket would go on with a byte a segment for ever.
  end.full = room == 0 || (end.full && room < stream_buffer_bytes_ / 3);
  if (end.full) return EAGAIN;
  limit = std::min(limit, room);
  std::vector<uint8_t> bytes;
  for (const iovec& vector : vectors) {
    const auto* from = static_cast<const uint8_t*>(vector.iov_base);
    const size_t take = std::min(vector.iov_len, limit - bytes.size());
    bytes.insert(bytes.end(), from, from + take);
  }
  sent = bytes.size();
  end.under_way += sent;
  world_.Trace(SimEvent::kSend, socket.connection->serial, static_cast<uint64_t>(socket.side), sent);
  bool cut = false;
  if (end.cut_after.has_value()) {
    cut = bytes.size() >= *end.cut_after;
    bytes.resize(std::min(bytes.size(), *end.cut_after));
    *end.cut_after -= bytes.size();
  }
  const ConnectionPointer connection = socket.connection;
  const int to = 1 - socket.side;
  if (bytes.size() > 1 && world_.random().Chance(world_.chaos().split_arrival)) {
    const auto at = static_cast<std::ptrdiff_t>(world_.random().Between(1, bytes.size() - 1));
    Transmit(connection, to, {.bytes = {bytes.begin(), bytes.begin() + at}});
    bytes.erase(bytes.begin(), bytes.begin() + at);
  }
  if (!bytes.empty()) Transmit(connection, to, {.bytes = std::move(bytes)});
  if (cut) {
    end.cut_after.reset();
    world_.At(std::max(end.last_arrival, world_.now()), [this, connection] {
      world_.Count(SimFault::kCutAtByte);
      world_.Trace(SimEvent::kCut, connection->serial, 1, 0);
      CutNow(connection);
    });
  }
  return 0;
}

int SimNetwork::Receive(int descriptor, std::span<uint8_t> out, size_t& got) {
  Socket& socket = At(descriptor);
  if (socket.connection == nullptr) return ENOTCONN;
  End& end = socket.end();
  got = 0;
  if (end.arrived_bytes == 0) {
    if (end.error != 0) return std::exchange(end.error, 0);
    if (!end.dead && !end.end_arrived && !end.receive_shut) return EAGAIN;
    world_.Trace(SimEvent::kReceive, socket.connection->serial, static_cast<uint64_t>(socket.side), 0);
    return 0;
  }
  while (got < out.size() && !end.arrived.empty()) {
    const std::vector<uint8_t>& first = end.arrived.front();
    const size_t take = std::min(out.size() - got, first.size() - end.read_of_first);
    std::copy_n(first.data() + end.read_of_first, take, out.data() + got);
    got += take;
    end.read_of_first += take;
    if (end.read_of_first == first.size()) {
      end.arrived.pop_front();
      end.read_of_first = 0;
    }
  }
  end.arrived_bytes -= got;
  world_.Trace(SimEvent::kReceive, socket.connection->serial, static_cast<uint64_t>(socket.side), got);
  const End& peer = socket.connection->ends[static_cast<size_t>(1 - socket.side)];
  if (!peer.dead && !peer.closed) {
    Transmit(socket.connection, 1 - socket.side, {.kind = Packet::Kind::kTaken, .bytes = {}, .taken = got});
  }
  return 0;
}

void SimNetwork::ShutdownWrite(int descriptor) {
  const Socket& socket = At(descriptor);
  if (socket.connection != nullptr && socket.end().connected) SendEnd(socket.connection, socket.side);
}

void SimNetwork::ShutdownBoth(int descriptor) {
  const Socket& socket = At(descriptor);
  if (socket.connection == nullptr || !socket.end().connected) return;
  socket.end().receive_shut = true;
  SendEnd(socket.connection, socket.side);
  Notify(&socket, true, true);
}

void SimNetwork::SetLingerReset(int descriptor) { At(descriptor).linger_reset = true; }

// --- faults ---

std::vector<SimNetwork::ConnectionView> SimNetwork::Connections() const {
  std::vector<ConnectionView> views;
  for (const auto& [serial, connection] : connections_) {
    const std::array<End, 2>& ends = connection->ends;
    if (ends[0].dead && ends[1].dead) continue;
    views.push_back({.serial = serial,
                     .hosts = {ends[0].host, ends[1].host},
                     .established = ends[0].connected && ends[1].connected});
  }
  return views;
}

void SimNetwork::Hit(Connection& connection) {
  connection.hit = true;
  const std::string one = connection.ends[0].address.ToString();
  const std::string other = connection.ends[1].address.ToString();
  hit_.emplace(one, other);
  hit_.emplace(other, one);
}

void SimNetwork::MarkHit(int descriptor) {
  if (const Socket& socket = At(descriptor); socket.connection != nullptr) Hit(*socket.connection);
}

bool SimNetwork::WasHit(const SocketAddress& one, const SocketAddress& other) const {
  return hit_.contains({one.ToString(), other.ToString()});
}

void SimNetwork::CutNow(const ConnectionPointer& connection) {
  Hit(*connection);
  for (int side = 0; side < 2; ++side) {
    if (!connection->ends[static_cast<size_t>(side)].dead) Die(*connection, side, ECONNRESET);
  }
}

void SimNetwork::Cut(uint64_t connection) {
  const ConnectionPointer found = Find(connection);
  if (found == nullptr) return;
  world_.Count(SimFault::kCut);
  world_.Trace(SimEvent::kCut, connection, 0, 0);
  CutNow(found);
}

void SimNetwork::CutAfter(uint64_t connection, int from, size_t bytes) {
  if (const ConnectionPointer found = Find(connection); found != nullptr) {
    found->ends[static_cast<size_t>(from)].cut_after = bytes;
  }
}

void SimNetwork::Freeze(uint64_t connection, int to) {
  const ConnectionPointer found = Find(connection);
  if (found == nullptr) return;
  Hit(*found);
  found->ends[static_cast<size_t>(to)].frozen = true;
  world_.Trace(SimEvent::kFreeze, connection, static_cast<uint64_t>(to), 0);
}

void SimNetwork::Thaw(uint64_t connection) {
  const ConnectionPointer found = Find(connection);
  if (found == nullptr) return;
  for (End& end : found->ends) end.frozen = false;
  world_.Trace(SimEvent::kThaw, connection, 0, 0);
  ReleaseHeld(found);
}

void SimNetwork::Kill(int descriptor) {
  Socket& socket = At(descriptor);
  TUNNEL_CHECK(socket.connection != nullptr);
  Hit(*socket.connection);
  if (std::exchange(socket.end().dead, true)) return;
  SendReset(socket.connection, socket.side);
  Notify(&socket, true, true);
}

void SimNetwork::PlantBug(uint64_t connection, int to, SimPlant bug) {
  if (const ConnectionPointer found = Find(connection); found != nullptr) {
    found->ends[static_cast<size_t>(to)].plant = bug;
  }
}

}  // namespace tunnel::core
