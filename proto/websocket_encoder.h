// Frames of a WebSocket connection, to be written before their payload (RFC 6455 section 5.2).
//
// `role` is ours. A client's frames are masked: `mask_key` must come fresh for every frame from the system's random
// source (sections 5.3 and 10.3), and the caller masks the payload with it (proto/mask.h). A server's are not, and
// `mask_key` is ignored. Nothing here fails: an `out` that is too small or a frame that must not exist is our bug.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "proto/mask.h"
#include "proto/websocket.h"
#include "proto/websocket_limits.h"

namespace tunnel::proto {

// The size of the header of a frame with that payload, so that room for it can be kept before the payload.
[[nodiscard]] size_t FrameHeaderBytes(Role role, uint64_t payload_bytes);

// Writes the header and returns its size. `out` holds at least FrameHeaderBytes(), for which kMaxFrameHeaderBytes
// always does. `fin` is false for every fragment of a message but the last; fragments after the first are
// kContinuation.
[[nodiscard]] size_t EncodeFrameHeader(std::span<uint8_t> out, Role role, Opcode opcode, bool fin,
                                       uint64_t payload_bytes, const MaskKey& mask_key);

// These write a whole control frame, payload masked where it must be, and return its size. `out` holds at least
// kMaxControlFrameBytes. `payload` is at most kMaxControlPayloadBytes and must not overlap `out`.
[[nodiscard]] size_t EncodePing(std::span<uint8_t> out, Role role, std::span<const uint8_t> payload,
                                const MaskKey& mask_key);
[[nodiscard]] size_t EncodePong(std::span<uint8_t> out, Role role, std::span<const uint8_t> payload,
                                const MaskKey& mask_key);

// `code` is one that may travel (IsWireCloseCode), or kCloseNoStatus for a Close without code and reason, as the answer
// to one without. `reason` is cut to the longest whole, valid UTF-8 that fits in kMaxCloseReasonBytes.
[[nodiscard]] size_t EncodeClose(std::span<uint8_t> out, Role role, uint16_t code, std::string_view reason,
                                 const MaskKey& mask_key);

}  // namespace tunnel::proto
