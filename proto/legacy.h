// The messages that deployed ech-tunnel peers carry in WebSocket messages: a decoder and an encoder for both ends.
//
// One WebSocket message is one legacy message: a name and a colon, then fields separated by '|', then a payload that
// may hold any byte ("any" below). ID is 36 bytes.
//
//   client to server                           server to client
//   CLAIM:ID|CHANNEL               text        CLAIM_ACK:ID|CHANNEL               text
//   TCP:ID|HOST:PORT|any           text        CONNECTED:ID                       text
//   DATA:ID|any                    either      DATA:ID|any                        binary
//   CLOSE:ID                       text        CLOSE:ID                           text
//   UDP_CONNECT:ID|HOST:PORT       text        ERROR:any                          text
//   UDP_DATA:ID|any                binary      UDP_CONNECTED:ID                   text
//   UDP_CLOSE:ID                   text        UDP_ERROR:ID|any                   text
//                                              UDP_DATA:ID|HOST:PORT|any          binary
//
// The target of TCP may also be `unix:/path`, a Unix socket of the server's host: ours alone, other servers find no
// port in it and refuse. IPv6 hosts stand in brackets, except in UDP_DATA, where the last ':' ends the host (brackets
// are understood there too). Text frames may hold bytes that are not UTF-8, so the WebSocket layer must not check them
// for such a peer.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <utility>

#include "proto/websocket.h"

namespace tunnel::proto {

enum class LegacyType : uint8_t {
  kClaim,
  kClaimAck,
  kTcp,
  kConnected,
  kData,
  kClose,
  kError,
  kUdpConnect,
  kUdpConnected,
  kUdpError,
  kUdpData,
  kUdpClose,
};

inline constexpr size_t kConnectionIdBytes = 36;
inline constexpr size_t kMaxLegacyNameBytes = 13;  // UDP_CONNECTED
inline constexpr size_t kMaxLegacyHostBytes = 255;
inline constexpr size_t kMaxLegacyTargetBytes = 1 + kMaxLegacyHostBytes + 1 + 1 + 5;  // [HOST]:PORT
inline constexpr size_t kMaxLegacyTextBytes = 256;  // of ERROR and UDP_ERROR; the rest is dropped
// What a message holds before its payload: a name, a colon, an id, a target, two separators.
inline constexpr size_t kMaxLegacyHeadBytes =
    kMaxLegacyNameBytes + 1 + kConnectionIdBytes + 1 + kMaxLegacyTargetBytes + 1;
static_assert(kMaxLegacyTextBytes <= kMaxLegacyTargetBytes);  // one field buffer holds either

// The id of one connection. The peers send a UUID's text form; any 36 printable ASCII characters without '|' and space
// are taken, because only equality matters.
struct ConnectionId {
  std::array<char, kConnectionIdBytes> text = {};

  // A version 4 UUID (RFC 9562 section 5.4) of 16 bytes from the system's random source.
  static ConnectionId FromRandom(std::span<const uint8_t, 16> random);
  // nullopt when `text` is no id.
  static std::optional<ConnectionId> Parse(std::string_view text);

  [[nodiscard]] std::string_view view() const { return {text.data(), text.size()}; }

  friend bool operator==(const ConnectionId&, const ConnectionId&) = default;
  // Peers choose ids, so they are hashed only by abseil's hash, which is seeded per process.
  template <typename H>
  friend H AbslHashValue(H state, const ConnectionId& id) {
    return H::combine_contiguous(std::move(state), id.text.data(), id.text.size());
  }
};

struct LegacyForm;  // one row of the table of messages

// All fields that a message may have beside its payload; which are set, the type says.
struct LegacyHead {
  LegacyType type = LegacyType::kData;
  ConnectionId id = {};        // all but kError
  uint32_t channel = 0;        // kClaim, kClaimAck
  std::string_view host = {};  // kTcp, kUdpConnect, kUdpData from a server; without brackets
  uint16_t port = 0;           // with host; 0 only of kTcp to a Unix socket (IsUnixTarget of target.h)
  std::string_view text = {};  // kError, kUdpError: the peer's bytes as they are, at most kMaxLegacyTextBytes
};

// Whether `host` can travel: 1 to 255 bytes of printable ASCII without space, '|' and brackets.
[[nodiscard]] bool IsLegacyHost(std::string_view host);

// Reads the messages of one channel in place, driven by the events of a WebSocketDecoder:
//
//   kMessageBegin: Begin(event.opcode)
//   kMessageData:  Feed(event.payload), then Next() until kNeedMore
//   kMessageEnd:   Finish(), then Next() until kNeedMore
//
// Every message yields either kHead, any number of kPayload, kEnd; or one kMalformed. Allocates nothing. Not
// thread-safe.
class LegacyDecoder {
 public:
  enum class EventKind : uint8_t {
    kNeedMore,   // all input is consumed
    kHead,       // head() is complete and valid
    kPayload,    // `payload`: the next bytes, never empty, within the piece fed
    kEnd,        // the message is complete
    kMalformed,  // no message of this protocol; `reason` (a literal) says why. The rest of it is swallowed. With
                 // `id_known`, head().type and head().id are right: whoever sent it may be waiting for an answer
  };
  struct Event {
    EventKind kind = EventKind::kNeedMore;
    std::span<uint8_t> payload = {};
    std::string_view reason = {};
    bool id_known = false;
  };

  explicit LegacyDecoder(Role role) : role_(role) {}  // ours: a server reads what clients send
  LegacyDecoder(const LegacyDecoder&) = delete;       // head() points into it
  LegacyDecoder& operator=(const LegacyDecoder&) = delete;

  // Starts a message of opcode kText or kBinary; what was left of the one before is forgotten.
  void Begin(Opcode opcode);
  // Hands over the next piece of the message, after the one before is consumed. It must stay valid until Next() has
  // returned kNeedMore.
  void Feed(std::span<uint8_t> piece);
  // Says that the message ends with what was fed.
  void Finish() { finished_ = true; }

  [[nodiscard]] Event Next();

  // Of the message whose kHead (or kMalformed, as said there) was handed out; its views hold until the next Begin().
  [[nodiscard]] const LegacyHead& head() const { return head_; }

 private:
  enum class State : uint8_t { kIdle, kName, kId, kAfterId, kTarget, kChannel, kText, kPayload, kSwallow };
  enum class Field : uint8_t { kComplete, kPartial, kTooLong };

  // Each reads one part of the message and returns an event, or nullopt when the next part is to be read.
  std::optional<Event> TakeName();
  std::optional<Event> TakeId();
  std::optional<Event> TakeSeparator();
  Event TakeTarget();
  Event TakeChannel();
  Event TakeText();
  Event TakePayload();

  // Moves input into field_ up to `delimiter`, which is consumed, or to the end of the message when there is none.
  Field Collect(std::optional<char> delimiter, size_t limit_bytes);
  Event Malformed(std::string_view why);
  Event Head();

  Role role_;
  State state_ = State::kIdle;
  bool finished_ = false;
  Opcode opcode_ = Opcode::kText;
  const LegacyForm* form_ = nullptr;
  std::span<uint8_t> input_;
  size_t id_have_ = 0;
  size_t field_size_ = 0;
  std::array<char, kMaxLegacyTargetBytes> field_ = {};  // the field being read, then what head_'s views point to
  LegacyHead head_;
};

// The opcode with which we send a message of `type`. Payload of TCP goes out in a text frame whatever its bytes, since
// that is what the peers read.
[[nodiscard]] Opcode LegacyOpcodeOf(LegacyType type);

// Writes everything of a message but its payload (for kError and kUdpError the text is part of it, cut to
// kMaxLegacyTextBytes) and returns the size. `out` holds at least kMaxLegacyHeadBytes, `role` is ours and sends
// messages of that type; `id` is set where the type has one. nullopt when host or port cannot travel: an application's
// target.
[[nodiscard]] std::optional<size_t> EncodeLegacyHead(std::span<uint8_t> out, Role role, const LegacyHead& head);

// The head of DATA, the hot one: always kLegacyDataHeadBytes.
inline constexpr size_t kLegacyDataHeadBytes = 5 + kConnectionIdBytes + 1;
size_t EncodeLegacyDataHead(std::span<uint8_t> out, const ConnectionId& id);

}  // namespace tunnel::proto
