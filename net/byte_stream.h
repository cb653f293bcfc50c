// The one shape of everything that carries a byte stream: a TCP connection, TLS over one, a stream of the tunnel.
//
// Push: the stream calls its handler from the reactor's turn (never from inside a call on the stream), the handler's
// owner calls the stream. Backpressure: a producer stops at writable() == false and goes on at OnDrained(); a consumer
// calls PauseReceive(). One reactor's thread.
#pragma once

#include <string>

#include "core/slice.h"
#include "core/status.h"
#include "core/time.h"

namespace tunnel::net {

class ByteStream {
 public:
  class Handler {
   public:
    // Bytes, in order; never empty.
    virtual void OnData(core::Slice data) = 0;
    // The peer finished sending; we may go on. At most once.
    virtual void OnEnd() = 0;
    // The send queue fell to low water (core::kSendLowWaterBytes where there is one): writable. It need not have been
    // full.
    virtual void OnDrained() = 0;
    // Over in both directions. Ok: the peer closed in order and everything it sent was handed over. Otherwise why it
    // died; what was queued may be lost. The last call; none follows the handler's own Abort() or CloseAfterSend().
    // The stream may be destroyed from here, as from every callback.
    virtual void OnDead(absl::Status reason) = 0;

   protected:
    ~Handler() = default;
  };

  ByteStream() = default;
  ByteStream(const ByteStream&) = delete;
  ByteStream& operator=(const ByteStream&) = delete;
  // Destroying a stream that was not closed aborts it.
  virtual ~ByteStream() = default;

  // Sets who is called; nullptr pauses receiving until the next handler. Data kept back meanwhile comes first.
  virtual void SetHandler(Handler* handler) = 0;
  virtual void PauseReceive() = 0;
  virtual void ResumeReceive() = 0;

  // Queues bytes; accepted even when not writable, so that what was read needs no second home. Ignored when dead.
  virtual void Send(core::Slice data) = 0;
  [[nodiscard]] virtual bool writable() const = 0;
  // Bytes accepted and not yet with the kernel.
  [[nodiscard]] virtual size_t queued_bytes() const = 0;
  // As core::StreamSocket::LimitUnsent, where there is a socket below.
  virtual void LimitUnsent(unsigned bytes) { (void)bytes; }
  // Finishes sending after what is queued; the peer sees the end of the stream.
  virtual void FinishSend() = 0;

  // Sends what is queued, finishes, and lets go of the peer for at most `limit`. No callback follows.
  virtual void CloseAfterSend(core::Duration limit) = 0;
  // Ends at once, so that the peer can tell it from an orderly end where the transport can say so. No callback follows.
  virtual void Abort() = 0;

  // For logs: the peer's address.
  [[nodiscard]] virtual std::string peer() const = 0;
};

}  // namespace tunnel::net
