// Reads the frames of one mux/2 channel in place: bytes in, events out. mux_frame.h has what a frame holds.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "proto/message_gatherer.h"
#include "proto/mux_frame.h"
#include "proto/target.h"
#include "proto/websocket.h"

namespace tunnel::proto {

// Driven by the events of a WebSocketDecoder, with a call of Next() until kNeedMore after each of the last two:
//
//   kMessageBegin: Begin(event.opcode)
//   kMessageData:  Feed(event.payload)
//   kMessageEnd:   Finish()
//
// Every frame yields kFrame, any number of kPayload, kEnd; or, where it is to be ignored (PAD, types from 128 on),
// nothing. An error is final for the channel, which is to be closed with 1002; what was handed out before it stands,
// the bytes of the frame that is broken included. What is reported does not depend on where the pieces were cut.
//
// kFrame of DATA comes with its header; of DATAGRAM and of an OPEN that may have first bytes as soon as the address is
// complete; of everything else when the message has ended. What holds only of a whole frame (FIN, a datagram) is to be
// acted on at kEnd.
//
// Bounded: holds the fields of one frame and copies no bulk payload. Allocates nothing but the host of an address,
// whose memory it reuses. Owner's thread only.
class MuxDecoder {
 public:
  enum class EventKind : uint8_t {
    kNeedMore,  // all input is consumed
    kFrame,     // frame() is complete and valid
    kPayload,   // `payload`: the next bulk bytes, never empty, within the piece fed. Only of kOpen, kData, kDatagram
    kEnd,       // the frame is complete
    kError,     // a rule is broken; `reason` (a literal) says which
  };
  struct Event {
    EventKind kind = EventKind::kNeedMore;
    std::span<const uint8_t> payload = {};
    std::string_view reason = {};
  };

  explicit MuxDecoder(Role role) : role_(role) {}  // ours: a server reads what clients send
  MuxDecoder(const MuxDecoder&) = delete;          // frame() points into it
  MuxDecoder& operator=(const MuxDecoder&) = delete;

  // Starts a message. The one before must have been read to its end.
  void Begin(Opcode opcode);
  // Hands over the next piece of the message, after the one before is consumed. It must stay valid until Next() has
  // returned kNeedMore, or is no longer called.
  void Feed(std::span<const uint8_t> piece);
  // Says that the message ends with what was fed.
  void Finish() { finished_ = true; }

  // After kError every call returns the same kError, and what is fed is dropped.
  [[nodiscard]] Event Next();

  // The frame whose kFrame was handed out last; it and what it points to hold until the next Begin().
  [[nodiscard]] const MuxFrame& frame() const { return frame_; }

  [[nodiscard]] bool failed() const { return state_ == State::kFailed; }

 private:
  enum class State : uint8_t {
    kIdle,
    kHeader,
    kOpen,      // OPEN to the end of its address
    kDatagram,  // DATAGRAM to the end of its address
    kFields,    // a frame that is all fields, to the end of the message
    kPayload,
    kEnd,  // kFrame was handed out and nothing is left
    kIgnored,
    kFailed,
  };

  Event TakeHeader();
  Event TakeOpen();
  Event TakeDatagram();
  Event TakeFields();
  Event TakePayload();
  Event TakeIgnored();

  // These read what was gathered into frame_ and return what is wrong with it, or nothing.
  std::string_view ReadHeader();
  std::string_view ReadOpen(std::span<const uint8_t> address);
  std::string_view ReadFields();
  std::string_view ReadOpened();
  std::string_view ReadAddress(std::span<const uint8_t> address);

  // Gathers the payload to the end of the address that follows its first `fixed` bytes, and returns the address;
  // nothing, when `event` is to be handed out first.
  std::span<const uint8_t> GatherAddress(size_t fixed, Event& event);
  Event NeedMore(std::string_view otherwise);
  Event Fail(std::string_view reason);
  // The payload as far as it was gathered.
  [[nodiscard]] std::span<const uint8_t> fields() const {
    return std::span<const uint8_t>(input_.message()).first(input_.size()).subspan(kMuxHeaderBytes);
  }

  const Role role_;
  State state_ = State::kIdle;
  bool finished_ = false;
  size_t payload_bytes_ = 0;  // kPayload, kIgnored: of the payload so far, fields included
  MessageGatherer<kMuxMaxHeadBytes> input_;
  MuxFrame frame_;
  Target address_;
  std::string_view reason_;
};
static_assert(sizeof(MuxDecoder) < 512, "one for each channel");

}  // namespace tunnel::proto
