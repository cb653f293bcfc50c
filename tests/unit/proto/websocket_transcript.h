// What a WebSocketDecoder makes of a byte stream, as one comparable line. The unit tests and the fuzz target both read
// the decoder through this, and it checks on the way what must hold for every input.
#pragma once

#include <fmt/format.h>

#include <string>
#include <vector>

#include "core/check.h"
#include "proto/websocket_decoder.h"
#include "tests/unit/proto/guarded_input.h"

namespace tunnel::proto {

// Items, each ended by ';': T(text), B(binary), ping(...), pong(...), close CODE(reason), error CODE; and for a message
// that is not complete when the input ends: partial T(...). A message appears when it ends, and what an error cut short
// does not appear, so that the line does not depend on how the input was cut.
class WebSocketTranscript {
 public:
  explicit WebSocketTranscript(const WebSocketDecoder::Options& options) : decoder_(options) {}

  void Feed(std::span<uint8_t> piece) {
    using Kind = WebSocketDecoder::EventKind;
    decoder_.Feed(piece);
    for (;;) {
      const auto event = decoder_.Next();
      switch (event.kind) {
        case Kind::kNeedMore:
          return;
        case Kind::kMessageBegin:
          TUNNEL_CHECK(!in_message_ && (event.opcode == Opcode::kText || event.opcode == Opcode::kBinary));
          in_message_ = true;
          opcode_ = event.opcode;
          message_.clear();
          break;
        case Kind::kMessageData:
          TUNNEL_CHECK(in_message_ && event.opcode == opcode_ && !event.payload.empty());
          TUNNEL_CHECK(event.payload.data() >= piece.data() &&
                       event.payload.data() + event.payload.size() <= piece.data() + piece.size());
          message_ += AsString(event.payload);
          break;
        case Kind::kMessageEnd:
          TUNNEL_CHECK(in_message_ && event.opcode == opcode_);
          in_message_ = false;
          items_.push_back(Message() + ";");
          break;
        case Kind::kPing:
        case Kind::kPong:
          TUNNEL_CHECK(event.payload.size() <= kMaxControlPayloadBytes);
          items_.push_back(
              fmt::format("{}({});", event.kind == Kind::kPing ? "ping" : "pong", AsString(event.payload)));
          break;
        case Kind::kClose:
          TUNNEL_CHECK(event.reason.size() <= kMaxCloseReasonBytes && decoder_.finished());
          items_.push_back(fmt::format("close {}({});", event.close_code, event.reason));
          break;
        case Kind::kError: {
          TUNNEL_CHECK(!event.reason.empty() && decoder_.finished());
          const auto again = decoder_.Next();
          TUNNEL_CHECK(again.kind == Kind::kError && again.close_code == event.close_code);
          error_ = fmt::format("error {};", event.close_code);
          return;
        }
      }
      TUNNEL_CHECK(decoder_.in_message() == in_message_);
    }
  }

  // Messages and control frames, complete and valid; a Close is the last.
  const std::vector<std::string>& items() const { return items_; }

  // What came after the last item: an error, a part of a message, or nothing.
  std::string Ending() const { return in_message_ && !decoder_.finished() ? "partial " + Message() + ";" : error_; }

  std::string Line() const {
    std::string line;
    for (const std::string& item : items_) line += item;
    return line + Ending();
  }

 private:
  std::string Message() const { return fmt::format("{}({})", opcode_ == Opcode::kText ? "T" : "B", message_); }

  WebSocketDecoder decoder_;
  bool in_message_ = false;
  Opcode opcode_ = Opcode::kText;
  std::string message_;
  std::vector<std::string> items_;
  std::string error_;
};

inline WebSocketTranscript Transcribe(std::string_view stream, const WebSocketDecoder::Options& options,
                                      size_t piece_bytes) {
  WebSocketTranscript transcript(options);
  FeedInPieces(stream, piece_bytes, [&](std::span<uint8_t> piece) { transcript.Feed(piece); });
  return transcript;
}

inline std::string TranscriptOf(std::string_view stream, const WebSocketDecoder::Options& options, size_t piece_bytes) {
  return Transcribe(stream, options, piece_bytes).Line();
}

}  // namespace tunnel::proto
