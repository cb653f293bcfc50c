// The `Ech-Tunnel` field of a WebSocket upgrade: how both ends agree on mux/2 (docs/wire-native.md).
//
//   request    Ech-Tunnel: mux/2; session=AAECAwQFBgcICQoLDA0ODw; window=262144
//   response   Ech-Tunnel: mux/2; window=262144; resume=30; epoch=7
//
// A field is a list of protocols with parameters, all tokens (RFC 9110 5.6.2); a client may offer further protocols
// beside mux/2, in any order. Parameters that are not known are ignored. What is said twice is refused, and so is all
// that is not of this grammar. Without the field the peer speaks the legacy protocol only.
#pragma once

#include <absl/status/statusor.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

namespace tunnel::proto {

inline constexpr std::string_view kMuxHeaderName = "Ech-Tunnel";

inline constexpr size_t kMuxMaxFieldValueBytes = 1024;
inline constexpr size_t kMuxMaxProtocols = 8;
inline constexpr size_t kMuxMaxParameters = 16;  // of one protocol
inline constexpr uint64_t kMuxMaxInitialWindow = uint64_t{1} << 30;
inline constexpr uint64_t kMuxMaxResumeSeconds = 86400;

inline constexpr size_t kMuxSessionIdBytes = 16;

// Which session of a client a channel belongs to: random, and a capability. It has no way to be printed, and comparing
// two takes the same time whatever they hold.
class MuxSessionId {
 public:
  // All zero: no session's.
  MuxSessionId() = default;
  // `random` comes from the system's random source.
  explicit MuxSessionId(std::span<const uint8_t, kMuxSessionIdBytes> random);

  // The id itself; the caller takes care where it goes.
  [[nodiscard]] std::span<const uint8_t, kMuxSessionIdBytes> Reveal() const { return bytes_; }

  friend bool operator==(const MuxSessionId& a, const MuxSessionId& b) { return a.Equals(b); }
  // Peers choose ids, so they are hashed only by abseil's hash, which is seeded per process.
  template <typename H>
  friend H AbslHashValue(H state, const MuxSessionId& id) {
    return H::combine_contiguous(std::move(state), id.bytes_.data(), id.bytes_.size());
  }

 private:
  [[nodiscard]] bool Equals(const MuxSessionId& other) const;

  std::array<uint8_t, kMuxSessionIdBytes> bytes_ = {};
};

// What a client offers.
struct MuxOffer {
  MuxSessionId session;
  // How far the server may send on a stream that it opens before OPENED gives it a limit, in bytes.
  uint64_t window = 0;

  bool operator==(const MuxOffer&) const = default;
};

// What a server answers.
struct MuxAnswer {
  // As above, for the streams that the client opens.
  uint64_t window = 0;
  // How long the server keeps a stream that has no channel.
  uint64_t resume_seconds = 0;
  // Streams live in one process of the server, and as long as it knows the session: they can be moved only between
  // channels whose answers gave the same epoch. 0 when the answer gave none.
  uint64_t epoch = 0;

  bool operator==(const MuxAnswer&) const = default;
};

// The whole value of the request's only field of this name. nullopt where mux/2 is not among what is offered. Messages
// of errors do not quote it.
[[nodiscard]] absl::StatusOr<std::optional<MuxOffer>> ParseMuxOffer(std::string_view value);

// The whole value of the response's only field of this name; it must choose mux/2 and nothing else.
[[nodiscard]] absl::StatusOr<MuxAnswer> ParseMuxAnswer(std::string_view value);

// Values within the bounds above. An offer's text holds the session id: not for a log.
[[nodiscard]] std::string FormatMuxOffer(const MuxOffer& offer);
[[nodiscard]] std::string FormatMuxAnswer(const MuxAnswer& answer);

}  // namespace tunnel::proto
