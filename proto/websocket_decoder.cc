#include "proto/websocket_decoder.h"

#include <algorithm>
#include <cstring>

#include "core/check.h"

namespace tunnel::proto {
namespace {

constexpr uint8_t kFinBit = 0x80;
constexpr uint8_t kReservedBits = 0x70;
constexpr uint8_t kOpcodeBits = 0x0F;
constexpr uint8_t kMaskBit = 0x80;
constexpr uint8_t kLengthBits = 0x7F;
constexpr uint8_t kLength16 = 126;
constexpr uint8_t kLength64 = 127;

constexpr size_t LengthBytes(uint8_t byte1) {
  const uint8_t length = byte1 & kLengthBits;
  return length == kLength64 ? 8 : length == kLength16 ? 2 : 0;
}

constexpr size_t HeaderBytes(uint8_t byte1) {
  return kMinFrameHeaderBytes + LengthBytes(byte1) + ((byte1 & kMaskBit) != 0 ? 4 : 0);
}

constexpr bool IsKnown(Opcode opcode) {
  switch (opcode) {
    case Opcode::kContinuation:
    case Opcode::kText:
    case Opcode::kBinary:
    case Opcode::kClose:
    case Opcode::kPing:
    case Opcode::kPong:
      return true;
  }
  return false;
}

}  // namespace

void WebSocketDecoder::Feed(std::span<uint8_t> input) {
  TUNNEL_CHECK(input_.empty());
  if (!finished()) input_ = input;
}

std::span<uint8_t> WebSocketDecoder::Take(size_t limit) {
  const auto taken = input_.first(std::min(limit, input_.size()));
  input_ = input_.subspan(taken.size());
  return taken;
}

bool WebSocketDecoder::Fail(uint16_t code, std::string_view why) {
  state_ = State::kFailed;
  input_ = {};
  error_code_ = code;
  error_reason_ = why;
  return false;
}

WebSocketDecoder::Event WebSocketDecoder::Error() const {
  return {.kind = EventKind::kError, .close_code = error_code_, .reason = error_reason_};
}

// What the first two bytes say is judged before the rest of the header is awaited.
bool WebSocketDecoder::CheckFirstTwoBytes() {
  fin_ = (header_[0] & kFinBit) != 0;
  opcode_ = static_cast<Opcode>(header_[0] & kOpcodeBits);
  if ((header_[0] & kReservedBits) != 0) return Fail(kCloseProtocolError, "reserved bit set, no extension negotiated");
  if (!IsKnown(opcode_)) return Fail(kCloseProtocolError, "reserved opcode");
  const bool masked = (header_[1] & kMaskBit) != 0;
  if (masked && options_.role == Role::kClient) return Fail(kCloseProtocolError, "masked frame from a server");
  if (!masked && options_.role == Role::kServer) return Fail(kCloseProtocolError, "unmasked frame from a client");
  if (IsControl(opcode_)) {
    if (!fin_) return Fail(kCloseProtocolError, "fragmented control frame");
    if ((header_[1] & kLengthBits) > kMaxControlPayloadBytes) {
      return Fail(kCloseProtocolError, "control frame over 125 bytes");
    }
  } else if (opcode_ == Opcode::kContinuation) {
    if (!in_message_) return Fail(kCloseProtocolError, "continuation of no message");
  } else if (in_message_) {
    return Fail(kCloseProtocolError, "new message inside a fragmented one");
  }
  return true;
}

bool WebSocketDecoder::CheckLength() {
  const size_t length_bytes = LengthBytes(header_[1]);
  uint64_t length = header_[1] & kLengthBits;
  if (length_bytes > 0) {
    length = 0;
    for (size_t i = 0; i < length_bytes; ++i) length = (length << 8) | header_[kMinFrameHeaderBytes + i];
    if (length > kMax64BitPayloadBytes) return Fail(kCloseProtocolError, "top bit of a 64-bit length set");
    if (length <= (length_bytes == 2 ? kMax7BitPayloadBytes : kMax16BitPayloadBytes)) {
      return Fail(kCloseProtocolError, "length not in its shortest form");
    }
  }
  if (!IsControl(opcode_)) {
    const uint64_t before = opcode_ == Opcode::kContinuation ? message_bytes_ : 0;
    if (length > options_.max_message_bytes - before) return Fail(kCloseTooBig, "message over the limit");
    message_bytes_ = before + length;
  }
  frame_bytes_ = length;
  frame_done_ = 0;
  return true;
}

WebSocketDecoder::Progress WebSocketDecoder::ReadHeader() {
  for (;;) {
    const size_t need = header_have_ < kMinFrameHeaderBytes ? kMinFrameHeaderBytes : HeaderBytes(header_[1]);
    if (const auto taken = Take(need - header_have_); !taken.empty()) {
      std::memcpy(header_.data() + header_have_, taken.data(), taken.size());
      header_have_ += taken.size();
    }
    if (header_have_ < need) return Progress::kMore;
    if (need == kMinFrameHeaderBytes) {
      if (!CheckFirstTwoBytes()) return Progress::kFailed;
      if (HeaderBytes(header_[1]) > need) continue;
    }
    if (!CheckLength()) return Progress::kFailed;
    if ((header_[1] & kMaskBit) != 0) std::memcpy(mask_.data(), header_.data() + need - mask_.size(), mask_.size());
    header_have_ = 0;
    return Progress::kDone;
  }
}

WebSocketDecoder::Event WebSocketDecoder::ReadControl() {
  // The payload is used where it lies when it lies there whole.
  const auto taken = Take(static_cast<size_t>(frame_bytes_ - frame_done_));
  std::span<uint8_t> payload = taken;
  if (taken.size() < frame_bytes_) {
    if (!taken.empty()) std::memcpy(control_.data() + frame_done_, taken.data(), taken.size());
    frame_done_ += taken.size();
    if (frame_done_ < frame_bytes_) return {};
    payload = std::span<uint8_t>(control_).first(static_cast<size_t>(frame_bytes_));
  }
  if (options_.role == Role::kServer) ApplyMask(payload, mask_, 0);
  // A control frame between the fragments of a message leaves the message's state alone.
  state_ = State::kHeader;
  if (opcode_ == Opcode::kClose) return ReadClose(payload);
  return {.kind = opcode_ == Opcode::kPing ? EventKind::kPing : EventKind::kPong, .payload = payload};
}

WebSocketDecoder::Event WebSocketDecoder::ReadClose(std::span<uint8_t> payload) {
  uint16_t code = kCloseNoStatus;
  std::string_view reason;
  if (payload.size() == 1) {
    Fail(kCloseProtocolError, "close frame with half a code");
    return Error();
  }
  if (payload.size() >= 2) {
    code = static_cast<uint16_t>((payload[0] << 8) | payload[1]);
    if (!IsWireCloseCode(code)) {
      Fail(kCloseProtocolError, "invalid close code");
      return Error();
    }
    const auto text = payload.subspan(2);
    if (!IsUtf8(text)) {
      Fail(kCloseInvalidPayload, "close reason is not UTF-8");
      return Error();
    }
    reason = {reinterpret_cast<const char*>(text.data()), text.size()};
  }
  state_ = State::kClosed;
  input_ = {};
  return {.kind = EventKind::kClose, .close_code = code, .reason = reason};
}

WebSocketDecoder::Event WebSocketDecoder::Next() {
  for (;;) {
    switch (state_) {
      case State::kClosed:
        return {};
      case State::kFailed:
        return Error();
      case State::kControl:
        return ReadControl();
      case State::kHeader: {
        const Progress progress = ReadHeader();
        if (progress == Progress::kMore) return {};
        if (progress == Progress::kFailed) return Error();
        if (IsControl(opcode_)) {
          state_ = State::kControl;
          continue;
        }
        state_ = State::kData;
        if (opcode_ == Opcode::kContinuation) continue;
        in_message_ = true;
        message_opcode_ = opcode_;
        utf8_.Reset();
        return {.kind = EventKind::kMessageBegin, .opcode = message_opcode_};
      }
      case State::kData: {
        const bool check_utf8 = options_.check_utf8 && message_opcode_ == Opcode::kText;
        if (frame_done_ == frame_bytes_) {
          state_ = State::kHeader;
          if (!fin_) continue;
          if (check_utf8 && !utf8_.AtBoundary()) {
            Fail(kCloseInvalidPayload, "text ends within a UTF-8 character");
            return Error();
          }
          in_message_ = false;
          return {.kind = EventKind::kMessageEnd, .opcode = message_opcode_};
        }
        const uint64_t left = frame_bytes_ - frame_done_;
        const auto piece = Take(static_cast<size_t>(std::min<uint64_t>(left, input_.size())));
        if (piece.empty()) return {};
        if (options_.role == Role::kServer) ApplyMask(piece, mask_, static_cast<size_t>(frame_done_ % 4));
        frame_done_ += piece.size();
        if (check_utf8 && !utf8_.Feed(piece)) {
          Fail(kCloseInvalidPayload, "text is not UTF-8");
          return Error();
        }
        return {.kind = EventKind::kMessageData, .opcode = message_opcode_, .payload = piece};
      }
    }
  }
}

}  // namespace tunnel::proto
