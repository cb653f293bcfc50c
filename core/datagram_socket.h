// A UDP socket on a reactor: received datagrams are pushed to a handler with their sender, sent ones go out by the end
// of the turn or are dropped.
#pragma once

#include <cstddef>

#include "core/io_error.h"
#include "core/reactor.h"
#include "core/slice.h"
#include "core/socket_address.h"

namespace tunnel::core {

// Owns the socket; the kernel's view of it may outlive this handle (see OperationOwner), so that destroying a socket is
// allowed at any time, its handler's callbacks included. Nothing ever waits: what cannot be sent at once is dropped and
// counted (datagrams_unsent). ICMP errors are counted (datagram_errors) and the socket lives on. Owner core only.
class DatagramSocket {
 public:
  // Called from the reactor's turn only, never from inside a call on the socket.
  class Handler {
   public:
    // One whole datagram, perhaps empty. `from` is valid during the call; to keep the bytes, keep the slice
    // (BufferPool::ForHolding). One that the kernel had to cut is not delivered but counted (datagram_errors).
    virtual void OnDatagram(const SocketAddress& from, Slice data) = 0;
    // The socket is of no use any more. The last call.
    virtual void OnSocketError(IoError error) = 0;

   protected:
    ~Handler() = default;
  };

  DatagramSocket() = default;
  // Binds to `address`; port 0 takes a free one. Fails with the kernel's reason, naming the address.
  [[nodiscard]] static absl::StatusOr<DatagramSocket> Open(Reactor& reactor, const SocketAddress& address);
  DatagramSocket(DatagramSocket&& other) noexcept : state_(std::exchange(other.state_, nullptr)) {}
  DatagramSocket& operator=(DatagramSocket&& other) noexcept;
  ~DatagramSocket() { Close(); }

  [[nodiscard]] bool open() const { return state_ != nullptr; }
  [[nodiscard]] SocketAddress local_address() const;

  // From now on the kernel delivers what comes from `peer` only, and Send() needs no address. What came from others
  // before may still be delivered.
  [[nodiscard]] absl::Status Connect(const SocketAddress& peer);

  // Sets who is called and starts receiving. `handler` must outlive the socket. Once.
  void Start(Handler& handler);

  // Sends one datagram of at most kMaxDatagramBytes, or drops it. Those of one turn go to the kernel together, in
  // order. `data` is held until then.
  void SendTo(const SocketAddress& to, Slice data);
  // The same on a connected socket.
  void Send(Slice data);

  // Closes at once, having sent what was given to Send().
  void Close();

 private:
  class State;
  explicit DatagramSocket(State* state) : state_(state) {}
  State* state_ = nullptr;
};

// The unspecified address of `family` with port 0: where a socket is bound that only needs to send.
[[nodiscard]] SocketAddress AnyAddress(int family);

}  // namespace tunnel::core
