// What the applications and targets of one simulated run do: drawn from the seed, independent of what carries it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/sim_random.h"
#include "core/time.h"

namespace tunnel::simulation {

// What a carrier's protocol can say; what it cannot, the checks do not ask of it.
struct CarrierTraits {
  // An application may end its side and still get an answer that takes long.
  bool half_close = false;
  // One end's reset is seen as a reset at the other, not as an orderly end.
  bool resets_pass = false;
  // Who stops reading one stream delays no other on the same channel.
  bool isolates_streams = false;
  // A stream goes on on another channel when its own is lost.
  bool outlives_channels = false;
};

// One end of a stream.
struct PartyPlan {
  uint64_t send_bytes = 0;
  // Begins to send when it has received so many; or, keeping step, never sends more than it has received.
  uint64_t start_after = 0;
  bool keeps_step = false;
  bool start_after_end = false;    // when the other has ended
  bool ends_when_sent = false;     // ends its side as soon as all is sent; else when all is received, too
  uint32_t piece_bytes = 0;        // sends at most so many at once
  uint64_t pause_every_bytes = 0;  // reads so many, then pauses for
  core::Duration pause_for{};
  std::optional<uint64_t> leaves_after_bytes;  // sent and received together; then it is gone
  bool leaves_with_reset = false;
};

enum class StreamKind : uint8_t {
  kEcho,
  kDownload,
  kUpload,
  kServerFirst,
  kBothWays,
  kHalfClose,
  kAbandoned,
  kTargetLeaves
};
[[nodiscard]] const char* ToString(StreamKind kind);

struct StreamPlan {
  uint32_t number = 0;
  StreamKind kind = StreamKind::kEcho;
  core::Duration start{};
  bool socks = false;  // asks by SOCKS5; else it comes in by a forward listener
  bool by_name = false;
  PartyPlan application;
  PartyPlan target;
};

// How long its two ends read nothing, all in all, at most.
[[nodiscard]] core::Duration PausesOf(const StreamPlan& plan);
// `total_bytes` are spread over `streams`, starting within `window`.
[[nodiscard]] std::vector<StreamPlan> DrawStreams(core::SimRandom& random, const CarrierTraits& traits,
                                                  uint32_t streams, uint64_t total_bytes, core::Duration window);
[[nodiscard]] std::string Describe(const StreamPlan& plan);

}  // namespace tunnel::simulation
