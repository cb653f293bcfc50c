#include "bench/ws_echo_session.h"

#include <algorithm>
#include <utility>

namespace tunnel::bench {

EchoSession::EchoSession(core::Reactor& reactor, std::unique_ptr<net::ByteStream> stream, proto::Role role, Down down)
    : reactor_(reactor),
      socket_(reactor, std::move(stream), {.role = role, .check_utf8 = true}),
      down_(std::move(down)),
      counter_(reactor.timers(), [this] {
        const std::string text = fmt::format("{}", next_count_++);
        SendWhole(socket_, proto::Opcode::kText, {reinterpret_cast<const uint8_t*>(text.data()), text.size()});
        counter_.SetAfter(count_interval_);
      }) {}

void EchoSession::CountUp(core::Duration interval) {
  count_interval_ = interval;
  counter_.SetAfter(interval);
}

void EchoSession::OnMessageBegin(proto::Opcode opcode) {
  opcode_ = opcode;
  first_.Reset();
  message_.clear();
}

void EchoSession::OnMessageData(core::Slice piece) {
  if (first_.empty() && message_.empty()) {
    first_ = reactor_.buffers().ForHolding(std::move(piece));
    return;
  }
  if (message_.empty()) message_ = first_.text();
  first_.Reset();
  message_ += piece.text();
}

void EchoSession::OnMessageEnd() {
  const std::string_view whole = message_.empty() ? first_.text() : std::string_view(message_);
  ++counts_.messages;
  counts_.bytes += whole.size();
  SendWhole(socket_, opcode_, {reinterpret_cast<const uint8_t*>(whole.data()), whole.size()});
  first_.Reset();
  message_.clear();
  if (!socket_.writable() && !paused_) {
    paused_ = true;
    socket_.PauseReceive();
  }
}

void EchoSession::OnWritable() {
  if (std::exchange(paused_, false)) socket_.ResumeReceive();
}

void SendWhole(net::WebSocket& socket, proto::Opcode opcode, std::span<const uint8_t> message) {
  do {
    const auto fragment = message.first(std::min(message.size(), net::WebSocket::kMaxSendBytes));
    message = message.subspan(fragment.size());
    socket.SendFragment(opcode, message.empty(), fragment);
    opcode = proto::Opcode::kContinuation;
  } while (!message.empty());
}

}  // namespace tunnel::bench
