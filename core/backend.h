// The narrow interface between the reactor and the kernel (or, in simulation, what stands for it).
//
// Everything that touches a socket, a clock or a source of randomness goes through a Backend, one per reactor, used by
// its thread only except for Wake(). Operations are owned by their callers: an Operation is started, lives untouched
// until its last completion, and may then be started again; the backend allocates nothing for it. Completions are
// delivered from Poll() only, never from inside a Start call, so no call recurses into its caller.
#pragma once

#include <absl/functional/any_invocable.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/buffer_pool.h"
#include "core/intrusive_list.h"
#include "core/io_error.h"
#include "core/limits.h"
#include "core/slice.h"
#include "core/socket_address.h"
#include "core/status.h"
#include "core/time.h"

namespace tunnel::core {

struct Completion {
  IoError error = IoError::kOk;
  bool more = false;    // the operation stays started and will complete again
  int descriptor = -1;  // accept: the new connection, owned by the receiver of the completion
  size_t bytes = 0;     // receive: size of `data`, 0 is the end of the stream; send: bytes taken
  uint32_t events = 0;  // poll: EPOLLIN, EPOLLOUT, ... that are ready
  Slice data;           // receive, receive datagram
  // Receive datagram: who sent it, valid during the call; null when the completion carries no datagram.
  const SocketAddress* source = nullptr;
  bool truncated = false;  // receive datagram: there was more of it than a buffer holds
};

enum class OperationKind : uint8_t { kAccept, kReceive, kSend, kConnect, kPoll, kReceiveDatagram };

// Memory that the kernel needs while a kReceiveDatagram is started. What is in it is the backend's business.
struct DatagramScratch {
  msghdr message{};
  iovec vector{};
  sockaddr_storage source{};
  alignas(cmsghdr) std::array<uint8_t, kDatagramControlBytes> control{};
};

// One datagram to be sent; both must stay in place during the call.
struct OutgoingDatagram {
  const SocketAddress* to = nullptr;  // null on a connected socket
  std::span<const uint8_t> payload;
};

// What became of the datagrams of one call.
struct DatagramsSent {
  size_t sent = 0;
  size_t bytes = 0;
};

struct BackendList;

// One operation on one descriptor. The owner fills in what its kind needs, keeps it and all it points to in place while
// started(), and is told through `on_complete`, called with `more` false exactly once a start.
struct Operation : ListLink<BackendList> {
  OperationKind kind = OperationKind::kPoll;
  void (*on_complete)(Operation& operation, Completion& completion) = nullptr;
  void* context = nullptr;

  int descriptor = -1;
  const msghdr* message = nullptr;         // kSend
  const SocketAddress* address = nullptr;  // kConnect
  uint32_t poll_events = 0;                // kPoll: EPOLLIN and such; one shot
  DatagramScratch* scratch = nullptr;      // kReceiveDatagram

  [[nodiscard]] bool started() const { return started_; }

  // For backends only.
  bool started_ = false;
  bool cancelled_ = false;
  bool ready_ = false;
  uint32_t ready_events_ = 0;
};

struct BackendOptions {
  // Kernel features by name (BackendFeatures) that must not be used though the kernel has them.
  std::vector<std::string> disabled_features;
};

class Backend {
 public:
  Backend() = default;
  Backend(const Backend&) = delete;
  Backend& operator=(const Backend&) = delete;
  // No operation may be started any more.
  virtual ~Backend() = default;

  // "io_uring", "epoll" or "sim", and the features in use, for the log.
  [[nodiscard]] virtual std::string Describe() const = 0;

  // --- operations; errors come as completions ---
  // Accepts connections one after another (multishot), non-blocking and close-on-exec, until cancelled or an error.
  // Receives into buffers of the backend's own (multishot) until cancelled, the end of the stream, or an error.
  // Sends what fits of `message`, at least one byte. Connects. Waits once for readiness.
  // Receives datagrams (multishot), empty ones too, until cancelled or an error. What an ICMP message made of an
  // earlier send comes as a completion with an error, no source, and `more`: the socket lives on.
  virtual void Start(Operation& operation) = 0;
  // Asks a started operation to end. It completes with kCancelled, or with what it had reached before; data that had
  // arrived is still delivered. Harmless when not started.
  virtual void Cancel(Operation& operation) = 0;

  // --- immediate calls ---
  // A non-blocking, close-on-exec stream socket.
  [[nodiscard]] virtual IoError OpenStream(int family, int& descriptor) = 0;
  // Binds with SO_REUSEADDR (and SO_REUSEPORT when `share_port`) and listens; IPv6 sockets are IPv6 only. A Unix
  // socket's file gets mode 0600, replaces one that nobody listens on, and is removed by Close().
  [[nodiscard]] virtual IoError Listen(int descriptor, const SocketAddress& address, bool share_port) = 0;
  [[nodiscard]] virtual SocketAddress LocalAddress(int descriptor) = 0;
  [[nodiscard]] virtual SocketAddress PeerAddress(int descriptor) = 0;
  virtual void SetNoDelay(int descriptor) = 0;
  // A stream socket takes no more to send while `bytes` that it has were never sent (TCP_NOTSENT_LOWAT). A hint.
  virtual void LimitUnsent(int descriptor, unsigned bytes) = 0;
  // A non-blocking, close-on-exec datagram socket, bound to `address` (port 0 takes a free one), with large buffers.
  [[nodiscard]] virtual IoError OpenDatagram(const SocketAddress& address, int& descriptor) = 0;
  // From now on it sends to and receives from `peer` only.
  [[nodiscard]] virtual IoError ConnectDatagram(int descriptor, const SocketAddress& peer) = 0;
  // Sends each of `datagrams` or drops it, never waits: a full socket buffer, a datagram that is too long and one that
  // cannot get where it should are all a drop.
  [[nodiscard]] virtual DatagramsSent SendDatagrams(int descriptor, std::span<const OutgoingDatagram> datagrams) = 0;
  // Sets TCP_CONGESTION; benchmarks need the same algorithm everywhere.
  [[nodiscard]] virtual IoError SetCongestionControl(int descriptor, const std::string& algorithm) = 0;
  virtual void ShutdownWrite(int descriptor) = 0;
  // Ends both directions at once, so that started operations complete. With `reset` the peer sees a reset.
  virtual void Abort(int descriptor, bool reset) = 0;
  // No operation on it may be started.
  virtual void Close(int descriptor) = 0;
  // Lets go of a descriptor that another core's backend takes over. No operation on it may be started.
  virtual void Detach(int descriptor) = 0;

  // --- time, randomness, turns ---
  [[nodiscard]] virtual TimePoint Now() = 0;
  // Seconds since 1970, for what carries dates (certificates, keys).
  [[nodiscard]] virtual int64_t WallSeconds() = 0;
  // Fills with unpredictable bytes from the system's random source.
  virtual void FillRandom(std::span<uint8_t> out) = 0;

  // Called by every Poll() between waiting and delivering, so that completions see the time that it is then.
  void SetAfterWait(absl::AnyInvocable<void()> after_wait) { after_wait_ = std::move(after_wait); }
  // Submits what was started, waits until `deadline` (kNever: for ever; the past: not at all) for a completion or a
  // Wake(), and delivers every completion there is.
  virtual void Poll(TimePoint deadline) = 0;
  // Makes a current or the next Poll() return. Any thread.
  virtual void Wake() = 0;

  // Buffers the kernel may write into that are lent out as slices now.
  [[nodiscard]] virtual size_t receive_buffers_in_use() const = 0;

 protected:
  void AfterWait() {
    if (after_wait_) after_wait_();
  }

 private:
  absl::AnyInvocable<void()> after_wait_;
};

// Makes the io_uring backend, or says why the kernel will not have it (kUnavailable). `pool` must outlive it. Must be
// called on the thread that will call Poll().
[[nodiscard]] absl::StatusOr<std::unique_ptr<Backend>> MakeUringBackend(BufferPool& pool,
                                                                        const BackendOptions& options);
[[nodiscard]] absl::StatusOr<std::unique_ptr<Backend>> MakeEpollBackend(BufferPool& pool,
                                                                        const BackendOptions& options);

}  // namespace tunnel::core
