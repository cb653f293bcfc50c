// A connected stream socket on a reactor: received bytes are pushed to a handler, sent bytes are queued as slices.
#pragma once

#include <cstddef>
#include <optional>

#include "core/io_error.h"
#include "core/reactor.h"
#include "core/slice.h"
#include "core/socket_address.h"
#include "core/task.h"

namespace tunnel::core {

// Owns the connection; the kernel's view of it may outlive this handle (see OperationOwner), so that destroying a
// socket is allowed at any time, its handler's callbacks included. Owner core only.
class StreamSocket {
 public:
  // Called from the reactor's turn only, never from inside a call on the socket.
  class Handler {
   public:
    // Bytes, in order. To keep them, keep the slice.
    virtual void OnReceive(Slice data) = 0;
    // The peer sent its end of stream; sending may go on.
    virtual void OnReceiveEnd() = 0;
    // The send queue fell to kSendLowWaterBytes or less. It need not have been full.
    virtual void OnSendDrained() = 0;
    // The connection is dead in both directions; what was queued is lost, what had been received was delivered before.
    // The last call.
    virtual void OnSocketError(IoError error) = 0;

   protected:
    ~Handler() = default;
  };

  StreamSocket() = default;
  // Takes over a connected descriptor of the reactor's backend. Sets TCP_NODELAY.
  StreamSocket(Reactor& reactor, int descriptor);
  StreamSocket(StreamSocket&& other) noexcept : state_(std::exchange(other.state_, nullptr)) {}
  StreamSocket& operator=(StreamSocket&& other) noexcept;
  // Closes at once; what is queued is not sent.
  ~StreamSocket() { Close(); }

  [[nodiscard]] bool open() const { return state_ != nullptr; }
  [[nodiscard]] SocketAddress peer_address() const;
  [[nodiscard]] SocketAddress local_address() const;

  // Sets who is called and (re)starts receiving, also after PauseReceive(). `handler` must outlive the socket or be
  // replaced. With nullptr nothing is called and receiving pauses.
  void SetHandler(Handler* handler);
  // After Pause() OnReceive is not called until Resume(), and the peer's sending stops within its and our windows.
  void PauseReceive();
  void ResumeReceive();

  // Puts received bytes back: they are delivered again, before whatever else there is. From the owner's sequence only,
  // not from OnReceive().
  void PutBack(Slice data);

  // Queues bytes. Dropped silently once the connection is dead (OnSocketError tells).
  void Send(Slice data);
  // Bytes queued and not yet taken by the kernel.
  [[nodiscard]] size_t queued_bytes() const;
  // False from kSendHighWaterBytes up; OnSendDrained() follows.
  [[nodiscard]] bool writable() const;
  // Leaves what the network does not take yet in this queue rather than in the kernel's: no more than `bytes` there, so
  // that what is sent next is not late. A hint.
  void LimitUnsent(unsigned bytes);
  // Sends the end of stream after what is queued. Send() must not be called again.
  void FinishSend();

  // Closes at once: what is queued is dropped, the peer sees an end of stream.
  void Close();
  // Closes at once; the peer sees a reset, and so cannot take what it has for the whole.
  void Reset();
  // Lets go: sends what is queued and the end of stream, discards what comes until the peer ends too, for at most
  // `limit`, then closes; as Reset() does when something is still queued then.
  void CloseAfterSend(Duration limit);

  // A handshake's flight fits any socket's buffer: one that takes longer to be sent has a peer that takes nothing.
  static constexpr Duration kReleaseLimit = std::chrono::seconds(2);
  // Gives up the descriptor for another reactor, once what is queued was sent. Its operations must have ended, so the
  // result comes with `released` from the reactor's turn; bytes that had been received and not delivered come with it.
  // A peer that does not take what is queued within kReleaseLimit is cut off, and `released` goes without being called.
  void Release(absl::AnyInvocable<void(int descriptor, std::string received)> released);

 private:
  class State;
  State* state_ = nullptr;
};

// Connects to `address`. Ends with the reason the kernel gave, or why the task was interrupted.
[[nodiscard]] Task<absl::StatusOr<StreamSocket>> Connect(Reactor& reactor, SocketAddress address);

}  // namespace tunnel::core
