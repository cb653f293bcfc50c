// Limits and wire layout of mux/2 frames (docs/wire-native.md).
//
//   byte 0      type
//   byte 1      flags
//   bytes 2..3  zero
//   bytes 4..7  stream id
//   then        the payload, to the end of the WebSocket message
//
// Every integer is big-endian.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "proto/codec_limits.h"

namespace tunnel::proto {

inline constexpr size_t kMuxHeaderBytes = 8;
// Everything behind the header, of every type of frame: fields and bulk together.
inline constexpr size_t kMuxMaxPayloadBytes = size_t{64} * 1024;
inline constexpr size_t kMuxMaxMessageBytes = kMuxHeaderBytes + kMuxMaxPayloadBytes;

// The fields of each type.
inline constexpr size_t kMuxMaxAddressBytes = kSocks5MaxAddressBytes;
inline constexpr size_t kMuxOpenFixedBytes = 1 + 4 + 8;  // before the address
inline constexpr size_t kMuxOpenedFixedBytes = 1 + 8;    // before the address
inline constexpr size_t kMuxCreditBytes = 8 + 8;
inline constexpr size_t kMuxResumeBytes = 4 + 8 + 8;  // also of RESUMED
inline constexpr size_t kMuxCodeBytes = 4;            // before the reason
inline constexpr size_t kMuxMaxReasonBytes = 256;     // a sentence for a log
inline constexpr size_t kMuxMinOpaqueBytes = 8;       // of PING and PONG
inline constexpr size_t kMuxMaxOpaqueBytes = 64;

// Offsets and limits above this are refused, so that sums of two of them do not wrap.
inline constexpr uint64_t kMuxMaxOffset = INT64_MAX;

// What the encoder writes: header and fields, without the bulk payload behind them.
inline constexpr size_t kMuxDataHeadBytes = kMuxHeaderBytes;
inline constexpr size_t kMuxMaxDatagramHeadBytes = kMuxHeaderBytes + kMuxMaxAddressBytes;
inline constexpr size_t kMuxMaxFieldBytes =
    std::max({kMuxOpenFixedBytes + kMuxMaxAddressBytes, kMuxOpenedFixedBytes + kMuxMaxAddressBytes,
              kMuxCodeBytes + kMuxMaxReasonBytes, kMuxMaxOpaqueBytes, kMuxCreditBytes, kMuxResumeBytes});
inline constexpr size_t kMuxMaxHeadBytes = kMuxHeaderBytes + kMuxMaxFieldBytes;

static_assert(kMuxMaxFieldBytes < kMuxMaxPayloadBytes);
// The largest datagram of an application fits whatever its target is called: a SOCKS5 relay got it in one datagram of
// at most 65,507 bytes, with a header three bytes longer than our address.
static_assert(65507 - 3 <= kMuxMaxPayloadBytes);

}  // namespace tunnel::proto
