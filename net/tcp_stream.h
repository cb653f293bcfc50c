// A plain TCP connection as a ByteStream.
#pragma once

#include "core/stream_socket.h"
#include "net/byte_stream.h"

namespace tunnel::net {

class TcpStream final : public ByteStream, core::StreamSocket::Handler {
 public:
  explicit TcpStream(core::StreamSocket socket);
  ~TcpStream() override { socket_.Reset(); }

  void SetHandler(ByteStream::Handler* handler) override;
  void PauseReceive() override { socket_.PauseReceive(); }
  void ResumeReceive() override { socket_.ResumeReceive(); }
  // As StreamSocket::PutBack: for who read the stream before its handler.
  void PutBack(core::Slice data) { socket_.PutBack(std::move(data)); }
  void Send(core::Slice data) override { socket_.Send(std::move(data)); }
  [[nodiscard]] bool writable() const override { return socket_.writable(); }
  [[nodiscard]] size_t queued_bytes() const override { return socket_.queued_bytes(); }
  void LimitUnsent(unsigned bytes) override { socket_.LimitUnsent(bytes); }
  void FinishSend() override { socket_.FinishSend(); }
  void CloseAfterSend(core::Duration limit) override;
  void Abort() override;
  [[nodiscard]] std::string peer() const override { return peer_; }
  // As StreamSocket::Release; without a handler.
  void Release(absl::AnyInvocable<void(int descriptor, std::string received)> released) {
    socket_.Release(std::move(released));
  }

 private:
  void OnReceive(core::Slice data) override { handler_->OnData(std::move(data)); }
  void OnReceiveEnd() override { handler_->OnEnd(); }
  void OnSendDrained() override { handler_->OnDrained(); }
  void OnSocketError(core::IoError error) override;

  core::StreamSocket socket_;
  const std::string peer_;
  ByteStream::Handler* handler_ = nullptr;
};

}  // namespace tunnel::net
