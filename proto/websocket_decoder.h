// Frames of a WebSocket connection, bytes in and events out (RFC 6455 sections 5 to 8). Allocates nothing, copies no
// payload of data frames.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "proto/mask.h"
#include "proto/utf8.h"
#include "proto/websocket.h"
#include "proto/websocket_limits.h"

namespace tunnel::proto {

// Reads what the peer of one connection sends after the handshake. Not thread-safe.
//
//   decoder.Feed(bytes);
//   for (;;) { auto event = decoder.Next(); if (event.kind == kNeedMore) break; ... }
//
// The caller may pause by not calling Next(); nothing is lost. The decoder never answers: that a Ping is to be ponged
// (section 5.5.2), a Close echoed and an error sent as Close with its code (section 7.1.7) is for the caller to do.
class WebSocketDecoder {
 public:
  struct Options {
    Role role = Role::kServer;  // ours: a server demands masked frames, a client refuses them
    // Text messages must be UTF-8 (section 8.1). False for legacy peers, which put raw bytes in text frames; reasons of
    // Close frames are checked regardless.
    bool check_utf8 = true;
    uint64_t max_message_bytes = kDefaultMaxMessageBytes;  // sum over the fragments of a message
  };

  enum class EventKind : uint8_t {
    kNeedMore,      // all input is consumed
    kMessageBegin,  // `opcode` is text or binary
    kMessageData,   // `payload`: the next bytes of the message, never empty, in place in the fed bytes
    kMessageEnd,    // the last fragment is complete
    kPing,          // `payload`, at most 125 bytes; may come between the pieces of a message
    kPong,          // as kPing
    kClose,         // `close_code` (1005: none was sent) and `reason`; whatever follows is discarded (section 1.4)
    kError,         // `close_code` to send: 1002, 1007 or 1009; `reason` says what was wrong. Final
  };

  // `payload` of data points into the fed bytes. `payload` and `reason` of control frames point there or into the
  // decoder, and hold until the next call of Next() or Feed(). `reason` of an error is a literal.
  struct Event {
    EventKind kind = EventKind::kNeedMore;
    Opcode opcode = Opcode::kContinuation;  // of the message, for the three kMessage kinds
    std::span<uint8_t> payload = {};
    uint16_t close_code = 0;
    std::string_view reason = {};
  };

  explicit WebSocketDecoder(const Options& options) : options_(options) {}

  // Hands over the next bytes of the connection. They are unmasked in place, and must stay valid and untouched until
  // Next() has returned kNeedMore; call it only before the first Next() or after that.
  void Feed(std::span<uint8_t> input);

  // After kError every call returns the same kError; after kClose every call returns kNeedMore.
  [[nodiscard]] Event Next();

  // True after kClose or kError was handed out: nothing more will be accepted.
  [[nodiscard]] bool finished() const { return state_ == State::kClosed || state_ == State::kFailed; }

  // True between kMessageBegin and kMessageEnd.
  [[nodiscard]] bool in_message() const { return in_message_; }

 private:
  enum class State : uint8_t { kHeader, kData, kControl, kClosed, kFailed };
  enum class Progress : uint8_t { kDone, kMore, kFailed };

  std::span<uint8_t> Take(size_t limit);
  Progress ReadHeader();
  bool CheckFirstTwoBytes();
  bool CheckLength();
  Event ReadControl();
  Event ReadClose(std::span<uint8_t> payload);
  bool Fail(uint16_t code, std::string_view why);  // false, so that a check can return it
  Event Error() const;

  Options options_;
  std::span<uint8_t> input_;

  State state_ = State::kHeader;
  bool in_message_ = false;
  Opcode message_opcode_ = Opcode::kContinuation;
  uint64_t message_bytes_ = 0;
  Utf8Validator utf8_;

  // The current frame.
  std::array<uint8_t, kMaxFrameHeaderBytes> header_ = {};
  size_t header_have_ = 0;
  bool fin_ = false;
  Opcode opcode_ = Opcode::kContinuation;
  MaskKey mask_ = {};
  uint64_t frame_bytes_ = 0;
  uint64_t frame_done_ = 0;
  std::array<uint8_t, kMaxControlPayloadBytes> control_ = {};  // a control payload that straddles two feeds

  uint16_t error_code_ = 0;
  std::string_view error_reason_;
};

}  // namespace tunnel::proto
