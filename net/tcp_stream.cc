#include "net/tcp_stream.h"

namespace tunnel::net {

TcpStream::TcpStream(core::StreamSocket socket)
    : socket_(std::move(socket)), peer_(socket_.peer_address().ToString()) {}

void TcpStream::SetHandler(ByteStream::Handler* handler) {
  handler_ = handler;
  socket_.SetHandler(handler == nullptr ? nullptr : this);
}

void TcpStream::CloseAfterSend(core::Duration limit) {
  handler_ = nullptr;
  socket_.CloseAfterSend(limit);
}

void TcpStream::Abort() {
  handler_ = nullptr;
  socket_.Reset();
}

void TcpStream::OnSocketError(core::IoError error) {
  std::exchange(handler_, nullptr)->OnDead(core::ToStatus(error, peer_));
}

}  // namespace tunnel::net
