// The frames of mux/2, the native protocol (docs/wire-native.md): their vocabulary, and the encoder. mux_decoder.h
// reads them.
//
// One binary WebSocket message is one frame. The encoder writes what stands before the bulk payload (the first bytes of
// OPEN, the bytes of DATA, the datagram of DATAGRAM), so that this follows by reference.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "proto/big_endian.h"
#include "proto/mux_limits.h"
#include "proto/target.h"
#include "proto/websocket.h"

namespace tunnel::proto {

enum class MuxType : uint8_t {
  kOpen = 1,
  kOpened = 2,
  kData = 3,
  kCredit = 4,
  kReset = 5,
  kDatagram = 6,
  kPing = 7,
  kPong = 8,
  kResume = 9,
  kResumed = 10,
  kGoAway = 11,
  kPad = 12,
};

// Types from here on are ignored by who does not know them; those below that are not named above end the channel.
inline constexpr uint8_t kMuxFirstIgnoredType = 128;

// What a stream is. Clients alone may ask for a listener.
enum class MuxKind : uint8_t { kTcp = 1, kUdp = 2, kListen = 3 };

// What a RESET says. Of another code its receiver knows no more than of kAborted.
enum class MuxResetCode : uint32_t {
  kAborted = 0,      // the sender's end of the stream failed or was given up
  kFlowControl = 1,  // bytes beyond the limit
  kExpired = 2,      // without a channel for longer than `resume`
  kUnknown = 3,      // there is no such stream, or none any more
  kOverload = 4,     // over a bound of the sender
  kProtocol = 5,     // a frame that does not fit the stream's kind or state
};

// What a GOAWAY says, as above.
enum class MuxGoAwayCode : uint32_t {
  kRetired = 0,   // the channel has reached its age, or idles
  kShutdown = 1,  // the sender's process stops
  kOverload = 2,
};

// "OPEN" and so on; "?" of a value that is not named.
[[nodiscard]] std::string_view NameOf(MuxType type);

// Whether stream ids of this parity are given out by `role`: odd ones by the client, even ones by the server.
constexpr bool IsMuxStreamOf(Role role, uint32_t stream) {
  return stream != 0 && ((stream & 1) != 0) == (role == Role::kClient);
}

// All fields that a frame may have beside its bulk payload; which mean something, the type says. A view: what it points
// to belongs to whoever made it.
struct MuxFrame {
  MuxType type = MuxType::kData;
  bool fin = false;                      // kData: these are the last bytes. kCredit: FIN was delivered. kResume,
                                         // kResumed: FIN was received
  MuxKind kind = MuxKind::kTcp;          // kOpen
  uint8_t status = 0;                    // kOpened: 0, or a SOCKS5 reply code
  uint32_t stream = 0;                   // 0: the channel itself
  uint32_t generation = 0;               // kOpen, kResume, kResumed
  uint32_t code = 0;                     // kReset: a MuxResetCode; kGoAway: a MuxGoAwayCode; or any other value
  uint64_t offset = 0;                   // kCredit: consumed; kResume, kResumed: received. At most `limit`
  uint64_t limit = 0;                    // kOpen, kOpened, kCredit, kResume, kResumed; at most kMuxMaxOffset
  const Target* address = nullptr;       // kOpen, kOpened, kDatagram: see MayStandInMux()
  std::string_view reason = {};          // kReset, kGoAway: UTF-8
  std::span<const uint8_t> opaque = {};  // kPing, kPong: kMuxMinOpaqueBytes to kMuxMaxOpaqueBytes
};

// Whether frame.address can travel in a frame of this type (and, of kOpen, this kind). Its host passes IsValidHost, and
// its port is not 0 in a kDatagram and in a kOpen of kTcp. Or it is a Unix socket (IsUnixTarget, port 0), which can
// travel in a kOpened, and in a kOpen of kTcp and of kListen.
[[nodiscard]] bool MayStandInMux(const MuxFrame& frame);

// Writes everything of `frame` but its bulk payload into `out`, which holds at least kMuxMaxHeadBytes, and returns the
// size. `role` is ours. A reason is cut to kMuxMaxReasonBytes, and where it stops being UTF-8. nullopt, and nothing is
// to be sent, when the address cannot travel; everything else is the caller's to have right. Allocates nothing.
[[nodiscard]] std::optional<size_t> EncodeMuxFrame(std::span<uint8_t> out, Role role, const MuxFrame& frame);

// The head of DATA, the hot one: what EncodeMuxFrame writes.
inline void EncodeMuxDataHead(std::span<uint8_t, kMuxDataHeadBytes> out, uint32_t stream, bool fin) {
  StoreBig32(out.data(), static_cast<uint32_t>(MuxType::kData) << 24 | uint32_t{fin} << 16);
  StoreBig32(out.data() + 4, stream);
}

}  // namespace tunnel::proto
