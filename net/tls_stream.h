// TLS over a TCP connection, as a ByteStream.
#pragma once

#include <memory>
#include <optional>

#include "core/stream_socket.h"
#include "core/task.h"
#include "net/byte_stream.h"
#include "net/tls_engine.h"

namespace tunnel::net {

class TlsStream final : public ByteStream, core::StreamSocket::Handler, core::Attention {
 public:
  // The engine's context must outlive the stream.
  TlsStream(core::Reactor& reactor, core::StreamSocket socket, std::unique_ptr<TlsEngine> engine);
  // One whose handshake was done on another core: `received` is what Release() gave there.
  TlsStream(core::Reactor& reactor, core::StreamSocket socket, std::unique_ptr<TlsEngine> engine,
            std::string_view received);
  ~TlsStream() override;

  // Runs the handshake, once, before a handler is set. Ok when it is done; else in words why not, and
  // engine().failure() for decisions. The caller's deadline is the handshake's.
  [[nodiscard]] core::Task<absl::Status> Handshake();
  // Waits until the engine is confirmed(), while somebody reads: a handler is set and receives. Fails with why it never
  // will be.
  [[nodiscard]] core::Task<absl::Status> Confirmed();
  // Gives up a connection for another reactor, once what is queued was sent, after the handshake and without a handler.
  // The stream may be destroyed from then on.
  using Released = absl::AnyInvocable<void(int descriptor, std::unique_ptr<TlsEngine> engine, std::string received)>;
  void Release(Released released);
  [[nodiscard]] const TlsEngine& engine() const { return *engine_; }
  [[nodiscard]] core::SocketAddress peer_address() const { return peer_address_; }
  [[nodiscard]] core::SocketAddress local_address() const { return socket_.local_address(); }

  void SetHandler(ByteStream::Handler* handler) override;
  void PauseReceive() override;
  void ResumeReceive() override;
  void Send(core::Slice data) override;
  [[nodiscard]] bool writable() const override { return queued_bytes() < core::kSendHighWaterBytes; }
  [[nodiscard]] size_t queued_bytes() const override;
  void LimitUnsent(unsigned bytes) override { socket_.LimitUnsent(bytes); }
  void FinishSend() override;
  void CloseAfterSend(core::Duration limit) override;
  void Abort() override;
  [[nodiscard]] std::string peer() const override { return peer_; }

 private:
  void OnReceive(core::Slice data) override;
  void OnReceiveEnd() override;
  void OnSendDrained() override;
  void OnSocketError(core::IoError error) override;
  void Attend() override;

  void StepHandshake();
  // Decrypts and delivers until the input is used up or the handler paused. False when this was destroyed by a
  // callback.
  bool DeliverPlaintext();
  // Encrypts `data`, or collects it when it is small.
  void Take(core::Slice data);
  // Calls OnDrained() if the queue is at low water. False when this was destroyed by it.
  bool TellDrained();
  // Encrypts what was collected.
  void SealPending();
  // Moves the engine's output to the socket.
  void FlushOutput();
  void End(absl::Status reason);
  void DeliverEnd();

  core::Reactor& reactor_;
  core::StreamSocket socket_;
  std::unique_ptr<TlsEngine> engine_;
  const core::SocketAddress peer_address_;
  const std::string peer_;
  ByteStream::Handler* handler_ = nullptr;

  enum class Phase { kHandshake, kOpen, kFailed };
  Phase phase_ = Phase::kHandshake;
  core::Event handshake_step_;
  absl::Status handshake_status_;
  core::Event progress_;  // something was read, or the stream is over

  bool paused_ = true;
  core::Slice read_room_;  // where plaintext goes; what is delivered are slices of it
  core::Slice unsent_;     // small writes of this turn, to share a record
  bool full_ = false;      // above low water since the handler was last told
  bool socket_ended_ = false;
  bool peer_finished_ = false;
  bool end_delivered_ = false;
  std::optional<absl::Status> over_;
  bool* destroyed_ = nullptr;  // set by the destructor while a callback is running
};

}  // namespace tunnel::net
