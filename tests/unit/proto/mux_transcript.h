// What a MuxDecoder makes of one message, as one comparable value and as a line of text. The unit tests and the fuzz
// target both read the decoder through this.
#pragma once

#include <fmt/format.h>

#include <concepts>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/check.h"
#include "proto/mux_decoder.h"
#include "tests/unit/proto/guarded_input.h"

namespace tunnel::proto {

struct MuxResult {
  std::string error;  // reason
  bool has_frame = false;
  bool ended = false;  // neither error, frame nor end: the frame was ignored
  MuxFrame frame = {};
  Target address;
  std::string reason;
  std::string opaque;
  std::string payload;

  // The frame again, with its views pointing here.
  [[nodiscard]] MuxFrame View() const {
    MuxFrame view = frame;
    view.address = &address;
    view.reason = reason;
    view.opaque = AsBytes(opaque);
    return view;
  }
};

// A frame's fields in words, as docs/wire-native.md has them; without payload.
inline std::string DescribeMux(const MuxFrame& frame) {
  static constexpr std::string_view kKinds[] = {"?", "tcp", "udp", "listen"};
  std::string text = fmt::format("{} stream={}", NameOf(frame.type), frame.stream);
  switch (frame.type) {
    case MuxType::kOpen:
      text += fmt::format(" kind={} generation={} limit={} address={}", kKinds[static_cast<uint8_t>(frame.kind)],
                          frame.generation, frame.limit, ToString(*frame.address));
      break;
    case MuxType::kOpened:
      text += fmt::format(" status={} limit={} address={}", frame.status, frame.limit, ToString(*frame.address));
      break;
    case MuxType::kCredit:
      text += fmt::format(" consumed={} limit={}", frame.offset, frame.limit);
      break;
    case MuxType::kReset:
    case MuxType::kGoAway:
      text += fmt::format(" code={} reason=\"{}\"", frame.code, frame.reason);
      break;
    case MuxType::kDatagram:
      text += fmt::format(" address={}", ToString(*frame.address));
      break;
    case MuxType::kPing:
    case MuxType::kPong:
      text += " opaque=";
      for (const uint8_t byte : frame.opaque) text += fmt::format("{:02x}", byte);
      break;
    case MuxType::kResume:
    case MuxType::kResumed:
      text += fmt::format(" generation={} received={} limit={}", frame.generation, frame.offset, frame.limit);
      break;
    case MuxType::kData:
    case MuxType::kPad:
      break;
  }
  return text + (frame.fin ? " fin" : "");
}

inline std::string DescribeMux(const MuxResult& result) {
  std::string text = result.has_frame ? DescribeMux(result.View()) : "nothing";
  if (!result.payload.empty()) text += fmt::format(" payload={}:{}", result.payload.size(), result.payload);
  if (result.ended) text += " end";
  if (!result.error.empty()) text += " error: " + result.error;
  return text;
}

// Reads `message` with `decoder`, which may have been used before. `next_piece(left)` says how many of the bytes that
// are left come next: at least one; each piece lies against a guard page and is gone when the next is fed.
template <std::invocable<size_t> F>
MuxResult ReadMux(MuxDecoder& decoder, Opcode opcode, std::string_view message, F&& next_piece) {
  using Kind = MuxDecoder::EventKind;
  MuxResult result;
  std::span<const uint8_t> piece;
  const auto drain = [&] {
    for (;;) {
      const MuxDecoder::Event event = decoder.Next();
      switch (event.kind) {
        case Kind::kNeedMore:
          return;
        case Kind::kFrame:
          TUNNEL_CHECK(!result.has_frame && !decoder.failed());
          result.has_frame = true;
          break;
        case Kind::kPayload:
          TUNNEL_CHECK(result.has_frame && !result.ended && !event.payload.empty());
          TUNNEL_CHECK(event.payload.data() >= piece.data() &&
                       event.payload.data() + event.payload.size() <= piece.data() + piece.size());
          result.payload += AsString(event.payload);
          TUNNEL_CHECK(result.payload.size() <= kMuxMaxPayloadBytes);
          break;
        case Kind::kEnd:
          TUNNEL_CHECK(result.has_frame && !result.ended && result.error.empty());
          result.ended = true;
          break;
        case Kind::kError:
          TUNNEL_CHECK(!event.reason.empty() && decoder.failed() && !result.ended);
          result.error = event.reason;
          return;
      }
    }
  };
  decoder.Begin(opcode);
  GuardedInput guarded(message.size() + 1);
  while (!message.empty()) {
    const std::string_view part = message.substr(0, next_piece(message.size()));
    message.remove_prefix(part.size());
    piece = guarded.Place(part);
    decoder.Feed(piece);
    drain();
  }
  decoder.Finish();
  piece = guarded.Place(std::string_view());
  drain();
  TUNNEL_CHECK(!result.has_frame || result.ended || !result.error.empty());
  if (!result.has_frame) return result;
  result.frame = decoder.frame();
  if (result.frame.address != nullptr) result.address = *result.frame.address;
  result.reason = result.frame.reason;
  result.opaque = AsString(result.frame.opaque);
  result.frame.address = nullptr;
  result.frame.reason = {};
  result.frame.opaque = {};
  return result;
}

inline MuxResult ReadMux(MuxDecoder& decoder, Opcode opcode, std::string_view message, size_t piece_bytes) {
  return ReadMux(decoder, opcode, message, [&](size_t left) { return piece_bytes == 0 ? left : piece_bytes; });
}

// The whole message; nullopt when it cannot be sent.
inline std::optional<std::string> WriteMux(Role role, const MuxFrame& frame, std::string_view payload = {}) {
  const std::string blank(kMuxMaxHeadBytes, '\xee');
  GuardedInput guarded(blank.size());
  const std::span<uint8_t> out = guarded.Place(blank);
  const std::optional<size_t> size = EncodeMuxFrame(out, role, frame);
  if (!size) return std::nullopt;
  TUNNEL_CHECK(*size <= out.size());
  return AsString(out.first(*size)) + std::string(payload);
}

}  // namespace tunnel::proto
