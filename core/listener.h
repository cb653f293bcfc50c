// A listening TCP socket on a reactor.
#pragma once

#include <absl/functional/any_invocable.h>

#include <memory>

#include "core/reactor.h"
#include "core/stream_socket.h"

namespace tunnel::core {

// Accepts connections (multishot) and hands each to `accepted`, from the reactor's turn. When descriptors run out it
// waits and tries again instead of spinning. Owner core only. Destroying it stops accepting at once.
class Listener {
 public:
  using Accepted = absl::AnyInvocable<void(StreamSocket socket, const SocketAddress& peer)>;

  // Listens on `address`; port 0 takes a free one. With `share_port` other reactors may listen on the same port and the
  // kernel spreads connections over them. Fails with the kernel's reason, naming the address.
  [[nodiscard]] static absl::StatusOr<Listener> Open(Reactor& reactor, const SocketAddress& address, bool share_port,
                                                     Accepted accepted);
  // Whether `address` could be listened on by this process alone: the address with its port, which is a free one where
  // port 0 was asked for, or the kernel's reason. Nothing is left open.
  [[nodiscard]] static absl::StatusOr<SocketAddress> Probe(Reactor& reactor, const SocketAddress& address);
  Listener() = default;
  Listener(Listener&& other) noexcept : state_(std::exchange(other.state_, nullptr)) {}
  Listener& operator=(Listener&& other) noexcept;
  ~Listener() { Close(); }

  void Close();
  // Leaves connections in the kernel's queue until Resume(); those that were accepted before still come.
  void Pause();
  void Resume();
  [[nodiscard]] SocketAddress local_address() const;

 private:
  class State;
  explicit Listener(State* state) : state_(state) {}
  State* state_ = nullptr;
};

}  // namespace tunnel::core
