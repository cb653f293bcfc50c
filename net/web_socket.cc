#include "net/web_socket.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "net/limits.h"
#include "proto/websocket_encoder.h"

namespace tunnel::net {

using proto::WebSocketDecoder;

WebSocket::WebSocket(core::Reactor& reactor, std::unique_ptr<ByteStream> stream, const Options& options)
    : reactor_(reactor),
      stream_(std::move(stream)),
      options_(options),
      peer_(stream_->peer()),
      decoder_({.role = options.role, .check_utf8 = options.check_utf8, .max_message_bytes = kMaxMessageBytes}),
      ping_timer_(reactor.timers(), [this] { OnPingTimer(); }),
      close_timer_(
          reactor.timers(),
          [this] { GoDown(close_reason_.ok() ? Unavailable("the peer did not answer our Close") : close_reason_); }),
      last_received_(reactor.now()),
      receiving_since_(reactor.now()) {}

WebSocket::~WebSocket() {
  if (destroyed_ != nullptr) *destroyed_ = true;
  if (stream_ != nullptr) stream_->Abort();
}

void WebSocket::Start(Handler* handler, core::Slice received) {
  handler_ = handler;
  // Jittered, so that many channels do not ping in step.
  if (options_.keep_alive) ping_timer_.SetAfter(kPingInterval - reactor_.RandomBelow(kPingInterval / 5));
  stream_->SetHandler(this);
  if (!received.empty()) OnData(std::move(received));
}

proto::MaskKey WebSocket::NextMask() {
  proto::MaskKey key{};
  if (options_.role == proto::Role::kClient) reactor_.FillRandom(key);
  return key;
}

void WebSocket::SendFrame(proto::Opcode opcode, bool fin, std::span<const uint8_t> head,
                          std::span<const uint8_t> payload) {
  if (stream_ == nullptr || close_sent_) return;
  const size_t total = head.size() + payload.size();
  TUNNEL_CHECK(total <= kMaxSendBytes);
  const proto::MaskKey key = NextMask();
  // One block, but for the largest datagrams: their ends go into another.
  core::Slice block =
      reactor_.buffers().Allocate(std::min(total + proto::kMaxFrameHeaderBytes, core::BufferPool::kMaxBlockBytes));
  const size_t header = proto::EncodeFrameHeader(block.bytes(), options_.role, opcode, fin, total, key);
  const size_t first = std::min(payload.size(), block.size() - header - head.size());
  CopyOut(block.data() + header, head, key, 0);
  CopyOut(block.data() + header + head.size(), payload.first(first), key, head.size());
  block.Truncate(header + head.size() + first);
  stream_->Send(std::move(block));
  if (first == payload.size()) return;
  core::Slice rest = reactor_.buffers().Allocate(payload.size() - first);
  CopyOut(rest.data(), payload.subspan(first), key, head.size() + first);
  rest.Truncate(payload.size() - first);
  stream_->Send(std::move(rest));
}

void WebSocket::CopyOut(uint8_t* out, std::span<const uint8_t> bytes, const proto::MaskKey& key, size_t offset) const {
  if (options_.role == proto::Role::kClient) {
    proto::CopyMasked(out, bytes, key, offset);
  } else {
    std::copy(bytes.begin(), bytes.end(), out);
  }
}

void WebSocket::SendControl(proto::Opcode opcode, std::span<const uint8_t> payload) {
  if (stream_ == nullptr || close_sent_) return;
  core::Slice block = reactor_.buffers().Allocate(proto::kMaxControlFrameBytes);
  const proto::MaskKey key = NextMask();
  const size_t size = opcode == proto::Opcode::kPing ? proto::EncodePing(block.bytes(), options_.role, payload, key)
                                                     : proto::EncodePong(block.bytes(), options_.role, payload, key);
  block.Truncate(size);
  stream_->Send(std::move(block));
}

void WebSocket::SendClose(uint16_t code, std::string_view reason) {
  if (stream_ == nullptr || close_sent_) return;
  core::Slice block = reactor_.buffers().Allocate(proto::kMaxControlFrameBytes);
  block.Truncate(proto::EncodeClose(block.bytes(), options_.role, code, reason, NextMask()));
  stream_->Send(std::move(block));
  close_sent_ = true;
}

void WebSocket::PauseReceive() {
  if (++pauses_ == 1 && stream_ != nullptr) stream_->PauseReceive();
}

void WebSocket::ResumeReceive() {
  TUNNEL_CHECK(pauses_ > 0);
  if (--pauses_ > 0 || stream_ == nullptr) return;
  last_received_ = receiving_since_ = reactor_.now();
  stream_->ResumeReceive();
}

void WebSocket::Close(uint16_t code, std::string_view reason) {
  if (stream_ == nullptr || close_sent_) return;
  SendClose(code, reason);
  close_reason_ = Unavailable("closed by us: {}", reason);
  close_timer_.SetAfter(kCloseLimit);
}

void WebSocket::GoDown(const absl::Status& reason) {
  if (stream_ == nullptr) return;
  ping_timer_.Cancel();
  close_timer_.Cancel();
  stream_->CloseAfterSend(kCloseLimit);
  stream_.reset();
  handler_->OnDown(reason);
}

void WebSocket::OnData(core::Slice data) {
  bool destroyed = false;
  destroyed_ = &destroyed;
  last_received_ = reactor_.now();
  decoder_.Feed(data.bytes());
  for (;;) {
    const WebSocketDecoder::Event event = decoder_.Next();
    if (event.kind == WebSocketDecoder::EventKind::kNeedMore) break;
    switch (event.kind) {
      case WebSocketDecoder::EventKind::kMessageBegin:
        handler_->OnMessageBegin(event.opcode);
        break;
      case WebSocketDecoder::EventKind::kMessageData:
        handler_->OnMessageData(data.ShareSpan(event.payload));
        break;
      case WebSocketDecoder::EventKind::kMessageEnd:
        handler_->OnMessageEnd();
        break;
      case WebSocketDecoder::EventKind::kPing:
        SendControl(proto::Opcode::kPong, event.payload);
        break;
      case WebSocketDecoder::EventKind::kPong:
        OnPong(event.payload);
        break;
      case WebSocketDecoder::EventKind::kClose: {
        absl::Status reason = close_sent_ && !close_reason_.ok()
                                  ? close_reason_
                                  : Unavailable("closed by the peer with code {}{}{}", event.close_code,
                                                event.reason.empty() ? "" : ": ", event.reason);
        SendClose(event.close_code, "");
        destroyed_ = nullptr;
        GoDown(reason);
        return;
      }
      case WebSocketDecoder::EventKind::kError:
        reactor_.counters().protocol_errors.Add();
        SendClose(event.close_code, event.reason);
        destroyed_ = nullptr;
        GoDown(ProtocolError("the peer broke the WebSocket protocol: {} (sent {})", event.reason, event.close_code));
        return;
      case WebSocketDecoder::EventKind::kNeedMore:
        break;
    }
    // The handler may have ended or destroyed this socket.
    if (destroyed) return;
    if (stream_ == nullptr) break;
  }
  destroyed_ = nullptr;
}

void WebSocket::OnPong(std::span<const uint8_t> payload) {
  if (payload.size() != sizeof(ping_number_) || std::memcmp(payload.data(), &ping_number_, payload.size()) != 0) return;
  round_trip_ = reactor_.now() - ping_sent_;
}

void WebSocket::OnEnd() { GoDown(Unavailable("the peer ended the connection without a Close")); }

void WebSocket::OnDrained() { handler_->OnWritable(); }

void WebSocket::OnDead(absl::Status reason) {
  if (reason.ok()) reason = Unavailable("the peer ended the connection without a Close");
  GoDown(reason);
}

void WebSocket::OnPingTimer() {
  const core::Duration silence = reactor_.now() - last_received_;
  if (pauses_ == 0 && silence >= kDeadPeerLimit) {
    GoDown(
        absl::DeadlineExceededError(fmt::format("the peer was silent for {} s", core::ToMilliseconds(silence) / 1000)));
    return;
  }
  ++ping_number_;
  ping_sent_ = reactor_.now();
  std::array<uint8_t, sizeof(ping_number_)> payload{};
  std::memcpy(payload.data(), &ping_number_, payload.size());
  SendControl(proto::Opcode::kPing, payload);
  ping_timer_.SetAfter(kPingInterval - reactor_.RandomBelow(kPingInterval / 5));
}

}  // namespace tunnel::net
