// What a LegacyDecoder makes of one message, as one comparable line. The unit tests and the fuzz target both read the
// decoder through this.
#pragma once

#include <fmt/format.h>

#include <string>

#include "core/check.h"
#include "proto/legacy.h"
#include "tests/unit/proto/guarded_input.h"

namespace tunnel::proto {

struct LegacyResult {
  bool malformed = false;
  bool id_known = false;  // of one that is malformed
  bool has_head = false;
  bool ended = false;
  LegacyHead head = {};  // its views point into the two strings
  std::string host;
  std::string text;
  std::string payload;

  friend bool operator==(const LegacyResult& a, const LegacyResult& b) {
    return a.malformed == b.malformed && a.id_known == b.id_known && a.has_head == b.has_head && a.ended == b.ended &&
           a.head.type == b.head.type && a.head.id == b.head.id && a.head.channel == b.head.channel &&
           a.head.port == b.head.port && a.host == b.host && a.text == b.text && a.payload == b.payload;
  }
};

// Reads `message` cut into pieces of `piece_bytes` (0: one piece) with `decoder`, which may have been used before.
inline LegacyResult ReadLegacy(LegacyDecoder& decoder, Opcode opcode, std::string_view message, size_t piece_bytes) {
  LegacyResult result;
  const auto drain = [&](std::span<uint8_t> piece) {
    using Kind = LegacyDecoder::EventKind;
    for (;;) {
      const auto event = decoder.Next();
      switch (event.kind) {
        case Kind::kNeedMore:
          return;
        case Kind::kHead:
          TUNNEL_CHECK(!result.has_head && !result.malformed);
          result.has_head = true;
          break;
        case Kind::kPayload:
          TUNNEL_CHECK(result.has_head && !result.ended && !event.payload.empty());
          TUNNEL_CHECK(event.payload.data() >= piece.data() &&
                       event.payload.data() + event.payload.size() <= piece.data() + piece.size());
          result.payload += AsString(event.payload);
          break;
        case Kind::kEnd:
          TUNNEL_CHECK(result.has_head && !result.ended);
          result.ended = true;
          break;
        case Kind::kMalformed:
          TUNNEL_CHECK(!result.has_head && !result.malformed && !event.reason.empty());
          result.malformed = true;
          result.id_known = event.id_known;
          break;
      }
    }
  };
  decoder.Begin(opcode);
  FeedInPieces(message, piece_bytes, [&](std::span<uint8_t> piece) {
    decoder.Feed(piece);
    drain(piece);
  });
  decoder.Finish();
  drain({});
  TUNNEL_CHECK(result.malformed || result.ended);
  if (result.has_head || result.id_known) {
    result.head = decoder.head();
    result.host = result.head.host;
    result.text = result.head.text;
    // Strings move when the result is returned; whoever needs the views points them again.
    result.head.host = {};
    result.head.text = {};
  }
  return result;
}

}  // namespace tunnel::proto
