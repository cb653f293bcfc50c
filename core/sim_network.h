// The kernel and the network of a simulated world, in memory: hosts, links, and non-blocking sockets by number.
//
// Its calls are those of the kernel and give errno values; what they begin goes on in the world's events. Everything
// here belongs to the one thread on which the world runs. TCP is modelled by what a program can see of it: bytes in
// order, a window's worth of them under way, ends, resets, and silence.
#pragma once

#include <sys/uio.h>

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "core/backend.h"
#include "core/sim_faults.h"
#include "core/socket_address.h"
#include "core/time.h"

namespace tunnel::core {

class SimWorld;

enum class SimHost : uint32_t {};

// One direction between two hosts.
struct SimLink {
  Duration latency{};
  Duration jitter{};              // added, evenly spread; a connection's bytes stay in order all the same
  uint64_t bytes_per_second = 0;  // shared by all that goes this way; 0: any number
  uint32_t datagram_loss = 0;     // per million
  uint32_t datagram_copies = 0;   // per million arrive twice
};

// A bug that a test plants to see it found: the next piece of data is lost, or comes twice, or the end never comes.
enum class SimPlant : uint8_t { kNone, kLoseData, kRepeatData, kLoseEnd };

// Told when a call that gave EAGAIN may do better.
class SimWatcher {
 public:
  virtual void OnSocketReady(int descriptor, bool in, bool out) = 0;

 protected:
  ~SimWatcher() = default;
};

class SimNetwork {
 public:
  SimNetwork(SimWorld& world, size_t stream_buffer_bytes);
  SimNetwork(const SimNetwork&) = delete;
  SimNetwork& operator=(const SimNetwork&) = delete;
  ~SimNetwork();

  // --- hosts and links ---
  // A host with these addresses (their ports do not count) beside its loopback ones.
  SimHost AddHost(const std::vector<SocketAddress>& addresses);
  // Both directions. Unset links have no latency and no limit; loopback always so.
  void SetLink(SimHost one, SimHost other, const SimLink& link);
  // Whether calls on this host fail as SimChaos says.
  void SetFaulty(SimHost host, bool faulty) { hosts_[Index(host)].faulty = faulty; }
  [[nodiscard]] bool faulty(SimHost host) const { return hosts_[Index(host)].faulty; }
  // Further descriptors that a host may open; nullopt: any number. Above it EMFILE.
  void SetDescriptorsLeft(SimHost host, std::optional<size_t> left);
  [[nodiscard]] size_t descriptors_open(SimHost host) const { return hosts_[Index(host)].descriptors; }

  // --- sockets; each returns 0 or an errno value ---
  [[nodiscard]] int OpenStream(SimHost host, int family, int& descriptor);
  // Binds and listens.
  [[nodiscard]] int Listen(int descriptor, const SocketAddress& address, bool share_port);
  // EINPROGRESS, or why not; ConnectResult() tells what became of it: EINPROGRESS still, 0, or an error.
  [[nodiscard]] int Connect(int descriptor, const SocketAddress& address);
  [[nodiscard]] int ConnectResult(int descriptor);
  [[nodiscard]] int Accept(int descriptor, int& accepted);
  // At most `limit` bytes of what the vectors hold; EAGAIN when there is room for none.
  [[nodiscard]] int Send(int descriptor, std::span<const iovec> vectors, size_t limit, size_t& sent);
  // `got` 0 is the end of the stream.
  [[nodiscard]] int Receive(int descriptor, std::span<uint8_t> out, size_t& got);
  // Whether Accept(), Receive() or ReceiveDatagram() would give anything but EAGAIN.
  [[nodiscard]] bool WouldReceive(int descriptor) const;
  void ShutdownWrite(int descriptor);
  void ShutdownBoth(int descriptor);
  // Close() then resets.
  void SetLingerReset(int descriptor);
  void Close(int descriptor);
  [[nodiscard]] SocketAddress LocalAddress(int descriptor) const;
  [[nodiscard]] SocketAddress PeerAddress(int descriptor) const;
  [[nodiscard]] bool is_open(int descriptor) const;
  // A connected pair on one host, over loopback.
  std::pair<int, int> StreamPair(SimHost host);

  [[nodiscard]] int OpenDatagram(SimHost host, const SocketAddress& address, int& descriptor);
  [[nodiscard]] int ConnectDatagram(int descriptor, const SocketAddress& peer);
  // `to` null on a connected socket. EMSGSIZE is the only error; what finds no way is lost.
  [[nodiscard]] int SendDatagram(int descriptor, const SocketAddress* to, std::span<const uint8_t> payload);
  // The next datagram, or what became of an earlier one that was sent.
  [[nodiscard]] int ReceiveDatagram(int descriptor, std::span<uint8_t> out, size_t& got, SocketAddress& from,
                                    bool& truncated);

  // Null: nobody. One a descriptor.
  void Watch(int descriptor, SimWatcher* watcher);
  // For the trace: the socket's number in the order of the world's history, or its connection's.
  [[nodiscard]] uint64_t SerialOf(int descriptor) const;

  // --- what happens to connections ---
  struct ConnectionView {
    uint64_t serial = 0;
    SimHost hosts[2] = {};  // who connected, who accepted
    bool established = false;
  };
  // Those that live, oldest first.
  [[nodiscard]] std::vector<ConnectionView> Connections() const;
  // Resets both ends.
  void Cut(uint64_t connection);
  // The same once `bytes` more have been sent from end `from`, which arrive.
  void CutAfter(uint64_t connection, int from, size_t bytes);
  // What is sent towards end `to` waits until Thaw().
  void Freeze(uint64_t connection, int to);
  void Thaw(uint64_t connection);
  // Called with every connection that is begun, before its first packet; null: nobody.
  void SetOnConnect(std::function<void(const ConnectionView&)> on_connect) { on_connect_ = std::move(on_connect); }
  // Everything to and from a host waits.
  void FreezeHost(SimHost host);
  void ThawHost(SimHost host);
  // The connection of `descriptor` is dead for this end; the other sees a reset.
  void Kill(int descriptor);
  // Whether a fault, of the network or a failed call, has ever hit the connection between these two ends.
  [[nodiscard]] bool WasHit(const SocketAddress& one, const SocketAddress& other) const;
  void MarkHit(int descriptor);
  // What comes next to end `to` goes wrong: a bug, for tests of tests.
  void PlantBug(uint64_t connection, int to, SimPlant bug);

  // Sockets that are open, on all hosts.
  [[nodiscard]] size_t open_sockets() const { return open_sockets_; }

 private:
  struct Socket;
  struct Connection;
  struct End;
  struct Packet;
  struct Host {
    std::vector<SocketAddress> addresses;
    uint16_t next_port = 32768;
    size_t descriptors = 0;
    std::optional<size_t> limit;
    bool faulty = false;
    bool frozen = false;
  };
  struct LinkState {
    SimLink link;
    TimePoint busy_until;
  };
  using ConnectionPointer = std::shared_ptr<Connection>;

  static size_t Index(SimHost host) { return static_cast<size_t>(host); }
  // --- sim_network.cc: hosts, addresses, descriptors, links ---
  [[nodiscard]] Socket& At(int descriptor) const;
  [[nodiscard]] int Allocate(SimHost host, int& descriptor);
  void Notify(const Socket* socket, bool in, bool out) const;
  [[nodiscard]] LinkState& LinkOf(SimHost from, SimHost to) { return links_[{Index(from), Index(to)}]; }
  // When what is sent now arrives.
  [[nodiscard]] TimePoint Arrival(SimHost from, SimHost to, size_t bytes);
  [[nodiscard]] std::optional<SimHost> HostOf(const SocketAddress& address, SimHost from) const;
  [[nodiscard]] bool HasAddress(SimHost host, const SocketAddress& address) const;
  // The address from which `host` speaks to `to`; not valid without one of its family.
  [[nodiscard]] SocketAddress SourceFor(SimHost host, const SocketAddress& to) const;
  [[nodiscard]] uint16_t FreePort(SimHost host, int family, bool datagram);
  // The sockets bound to `address`, or to its wildcard, on a host; listeners, or UDP.
  [[nodiscard]] std::vector<Socket*> BoundTo(SimHost host, const SocketAddress& address, bool datagram) const;

  // --- sim_stream.cc: connections ---
  void Transmit(const ConnectionPointer& connection, int to, Packet packet);
  void Arrive(const ConnectionPointer& connection, int to, Packet packet);
  void ArriveNow(const ConnectionPointer& connection, int to, Packet& packet);
  void ArriveSyn(const ConnectionPointer& connection);
  void ReleaseHeld(const ConnectionPointer& connection);
  void Die(Connection& connection, int side, int error);
  void SendReset(const ConnectionPointer& connection, int from);
  void SendEnd(const ConnectionPointer& connection, int from);
  void CloseEnd(const ConnectionPointer& connection, int side, bool reset);
  void CutNow(const ConnectionPointer& connection);
  void Forget(const Connection& connection);
  [[nodiscard]] ConnectionPointer Find(uint64_t serial) const;
  void GiveUpWhenStillHeld(const ConnectionPointer& connection, int to);
  void Hit(Connection& connection);

  // --- sim_datagram.cc ---
  void ArriveDatagram(SimHost from_host, SimHost to_host, uint64_t sender, const SocketAddress& from,
                      const SocketAddress& to, const std::shared_ptr<std::vector<uint8_t>>& payload);

  SimWorld& world_;
  const size_t stream_buffer_bytes_;
  std::vector<Host> hosts_;
  std::map<std::pair<size_t, size_t>, LinkState> links_;
  std::vector<std::unique_ptr<Socket>> sockets_;  // by descriptor, from kFirstDescriptor
  size_t open_sockets_ = 0;
  uint64_t serials_ = 0;
  std::map<uint64_t, ConnectionPointer> connections_;
  std::set<std::pair<std::string, std::string>> hit_;
  std::function<void(const ConnectionView&)> on_connect_;
};

}  // namespace tunnel::core
