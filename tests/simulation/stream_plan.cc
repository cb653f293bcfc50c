#include "stream_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>

namespace tunnel::simulation {
namespace {

using core::Duration;
using core::SimRandom;

// Sizes of every order of magnitude.
uint64_t DrawSize(SimRandom& random, uint64_t most) {
  most = std::max<uint64_t>(most, 1);
  const auto bits = static_cast<uint64_t>(std::bit_width(most));
  const uint64_t limit = uint64_t{1} << random.Between(1, bits);
  return std::min(most, random.Between(1, limit));
}

// `expected`: what it receives.
void DrawManners(SimRandom& random, PartyPlan& party, uint64_t expected) {
  party.piece_bytes = static_cast<uint32_t>(random.Chance(300'000) ? random.Between(1, 600) : 64 * 1024);
  // One byte at a time is for little.
  if (party.send_bytes > 50'000 && party.piece_bytes < 100) party.piece_bytes = 1000;
  if (!random.Chance(250'000)) return;
  if (random.Chance(200'000)) {  // stops for long, once
    party.pause_every_bytes = std::max<uint64_t>(1, expected * 2 / 3);
    party.pause_for = std::chrono::milliseconds(random.Between(1, 20'000));
  } else {  // reads slowly
    party.pause_every_bytes = std::max<uint64_t>(random.Between(1, 100'000), expected / 50);
    party.pause_for = std::chrono::milliseconds(random.Between(1, 50));
  }
}

}  // namespace

const char* ToString(StreamKind kind) {
  switch (kind) {
    case StreamKind::kEcho:
      return "echo";
    case StreamKind::kDownload:
      return "download";
    case StreamKind::kUpload:
      return "upload";
    case StreamKind::kServerFirst:
      return "server-first";
    case StreamKind::kBothWays:
      return "both-ways";
    case StreamKind::kHalfClose:
      return "half-close";
    case StreamKind::kAbandoned:
      return "abandoned";
    case StreamKind::kTargetLeaves:
      return "target-leaves";
  }
  return "?";
}

std::vector<StreamPlan> DrawStreams(SimRandom& random, const CarrierTraits& traits, uint32_t streams,
                                    uint64_t total_bytes, Duration window) {
  std::vector<StreamPlan> plans;
  for (uint32_t number = 0; number < streams; ++number) {
    StreamPlan plan;
    plan.number = number;
    plan.kind = static_cast<StreamKind>(random.Below(8));
    plan.start = Duration(static_cast<int64_t>(random.Below(static_cast<uint64_t>(window.count()))));
    plan.socks = random.Below(2) == 0;
    plan.by_name = plan.socks && random.Below(2) == 0;
    PartyPlan& application = plan.application;
    PartyPlan& target = plan.target;
    const uint64_t much = DrawSize(random, 2 * total_bytes / streams);
    const uint64_t little = DrawSize(random, 2000);
    switch (plan.kind) {
      case StreamKind::kEcho:
        application.send_bytes = much / 2 + 1;
        target.send_bytes = application.send_bytes;
        target.keeps_step = true;
        break;
      case StreamKind::kDownload:
        application.send_bytes = little;
        target.send_bytes = much;
        target.start_after = little;
        break;
      case StreamKind::kUpload:
        application.send_bytes = much;
        target.send_bytes = little;
        target.start_after = much;
        break;
      case StreamKind::kServerFirst:
        target.send_bytes = little;
        application.start_after = little;
        application.send_bytes = much;
        break;
      case StreamKind::kBothWays:
        application.send_bytes = much / 2 + 1;
        target.send_bytes = much - much / 2;
        break;
      case StreamKind::kHalfClose:
        application.send_bytes = little;
        application.ends_when_sent = true;
        target.send_bytes = much;
        // Who cannot tell that the other has ended must not wait for it.
        target.start_after_end = traits.half_close;
        target.start_after = traits.half_close ? 0 : little;
        break;
      case StreamKind::kAbandoned:
      case StreamKind::kTargetLeaves: {
        application.send_bytes = much / 2 + 1;
        target.send_bytes = much - much / 2;
        PartyPlan& leaver = plan.kind == StreamKind::kAbandoned ? application : target;
        leaver.leaves_after_bytes = random.Below(much + 1);
        leaver.leaves_with_reset = random.Below(2) == 0;
        break;
      }
    }
    DrawManners(random, application, target.send_bytes);
    DrawManners(random, target, application.send_bytes);
    plans.push_back(plan);
  }
  return plans;
}

Duration PausesOf(const StreamPlan& plan) {
  const auto of = [](const PartyPlan& party, uint64_t receives) {
    if (party.pause_every_bytes == 0) return Duration();
    return party.pause_for * static_cast<int64_t>(receives / party.pause_every_bytes);
  };
  return of(plan.application, plan.target.send_bytes) + of(plan.target, plan.application.send_bytes);
}

std::string Describe(const StreamPlan& plan) {
  return fmt::format("stream {}: {} at {} ms by {}{}, sends {}, gets {}", plan.number, ToString(plan.kind),
                     core::ToMilliseconds(plan.start), plan.socks ? "SOCKS5" : "forward",
                     plan.by_name ? " and name" : "", plan.application.send_bytes, plan.target.send_bytes);
}

}  // namespace tunnel::simulation
