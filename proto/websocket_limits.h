// Limits and wire layout of WebSocket frames (RFC 6455 section 5.2).
//
//   byte 0   FIN, RSV1..3, opcode (4 bits)
//   byte 1   MASK, length (7 bits): 0..125 itself, 126: 2 more bytes, 127: 8 more bytes (big-endian)
//   then     the mask key (4 bytes) when MASK is set, then the payload
#pragma once

#include <cstddef>
#include <cstdint>

namespace tunnel::proto {

inline constexpr size_t kMinFrameHeaderBytes = 2;
inline constexpr size_t kMaxFrameHeaderBytes = 14;  // 2, an 8-byte length, a 4-byte mask key

inline constexpr size_t kMaxControlPayloadBytes = 125;  // section 5.5
inline constexpr size_t kMaxControlFrameBytes = 2 + 4 + kMaxControlPayloadBytes;
inline constexpr size_t kMaxCloseReasonBytes = kMaxControlPayloadBytes - 2;  // beside the code

// Largest payload by form of the length; a larger form for a smaller payload is an error.
inline constexpr uint64_t kMax7BitPayloadBytes = 125;
inline constexpr uint64_t kMax16BitPayloadBytes = 0xFFFF;
inline constexpr uint64_t kMax64BitPayloadBytes = 0x7FFF'FFFF'FFFF'FFFF;  // the top bit must be zero

// What a decoder accepts unless told otherwise: far above what peers send in one message (legacy: 32 KiB and a head,
// mux/2: 64 KiB and a header), far below what would let one message hold a channel for seconds.
inline constexpr uint64_t kDefaultMaxMessageBytes = uint64_t{1} << 20;

static_assert(kMaxFrameHeaderBytes == kMinFrameHeaderBytes + 8 + 4);
static_assert(kMaxControlPayloadBytes <= kMax7BitPayloadBytes);

}  // namespace tunnel::proto
