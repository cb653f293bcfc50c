// What a simulated socket and a simulated connection are made of; for core/sim_*.cc only.
#pragma once

#include <array>
#include <cerrno>
#include <deque>
#include <memory>
#include <vector>

#include "core/sim_network.h"

namespace tunnel::core {

// Far from those of real files, so that a mix-up is seen at once.
inline constexpr int kFirstSimDescriptor = 1'000'000;

struct SimNetwork::Packet {
  enum class Kind : uint8_t { kSyn, kSynAnswer, kData, kTaken, kEnd, kReset };
  Kind kind = Kind::kData;
  std::vector<uint8_t> bytes;  // kData
  size_t taken = 0;            // kTaken: bytes that the receiver has read, so that more may be sent
};

// One end of a connection. `arrived` and what follows is what this end may receive; `under_way` what it has sent.
struct SimNetwork::End {
  SimHost host{};
  SocketAddress address;
  int descriptor = -1;  // -1: in a listener's queue, or closed
  bool closed = false;  // nobody reads any more
  bool connected = false;
  bool dead = false;  // reset; `error` is told once
  int error = 0;

  std::deque<std::vector<uint8_t>> arrived;
  size_t read_of_first = 0;
  size_t arrived_bytes = 0;
  bool end_arrived = false;
  bool receive_shut = false;

  bool end_sent = false;
  size_t under_way = 0;  // sent and not yet known to have been read
  bool full = false;     // a send found no room, and it takes a third of the buffer to send again
  TimePoint last_arrival;
  std::optional<size_t> cut_after;

  bool frozen = false;  // what comes is held
  std::deque<Packet> held;
  uint64_t releases = 0;  // of what was held
  SimPlant plant = SimPlant::kNone;
};

struct SimNetwork::Connection {
  uint64_t serial = 0;
  std::array<End, 2> ends;  // who connected, who accepted
  SocketAddress asked;      // what was connected to
  int attempts = 0;         // of the SYN
  bool hit = false;
};

struct SimNetwork::Socket {
  enum class Kind : uint8_t { kStream, kListener, kDatagram };
  Kind kind = Kind::kStream;
  SimHost host{};
  int family = 0;
  int descriptor = -1;
  uint64_t serial = 0;
  SimWatcher* watcher = nullptr;
  SocketAddress local;
  SocketAddress peer;  // kDatagram: whom it is connected to
  bool share_port = false;
  bool linger_reset = false;

  std::deque<ConnectionPointer> backlog;  // kListener
  ConnectionPointer connection;           // kStream
  int side = 0;

  struct Datagram {
    SocketAddress from;
    std::shared_ptr<std::vector<uint8_t>> payload;
  };
  std::deque<Datagram> inbox;  // kDatagram
  size_t inbox_bytes = 0;
  int error = 0;

  [[nodiscard]] End& end() const { return connection->ends[static_cast<size_t>(side)]; }
};

}  // namespace tunnel::core
