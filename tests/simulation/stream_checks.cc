#include "stream_checks.h"

#include <fmt/format.h>

namespace tunnel::simulation {
namespace {

// One direction: what `to` heard of what `from` had to say.
struct Direction {
  const PartyRecord& from;
  const PartyRecord& to;
  const PartyPlan& from_plan;
  bool to_application;
};

// Whether `to` may have heard an orderly end before it had everything.
bool MayEndEarly(const Direction& way, const StreamOutcome& outcome, const RunTraits& traits) {
  // There was never anybody, or nothing ever passed and whoever asked was told so.
  if (!way.from.connected || (way.from.sent == 0 && way.from.over)) return true;
  if (outcome.application.received == 0 && outcome.target.received == 0 && outcome.application.over) return true;
  // The other end went before it had said all, in order.
  if (way.from.left && !way.from_plan.leaves_with_reset) return true;
  const bool ended_by_half = way.to_application && outcome.plan.application.ends_when_sent;
  if (ended_by_half && !traits.carrier.half_close) return true;
  if (traits.carrier.resets_pass) return false;
  return way.from.left || outcome.application_hit || outcome.target_hit;
}

}  // namespace

std::vector<std::string> CheckStream(const StreamOutcome& outcome, const RunTraits& traits) {
  std::vector<std::string> wrong;
  const auto violate = [&](std::string_view what) {
    wrong.push_back(fmt::format("{}: {}; application: {}{}; target: {}{}", Describe(outcome.plan), what,
                                outcome.application.Describe(), outcome.application_hit ? " (hit)" : "",
                                outcome.target.Describe(), outcome.target_hit ? " (hit)" : ""));
  };
  if (outcome.times_connected > 1) violate(fmt::format("its target was connected {} times", outcome.times_connected));
  const Direction ways[] = {{outcome.target, outcome.application, outcome.plan.target, true},
                            {outcome.application, outcome.target, outcome.plan.application, false}};
  for (const Direction& way : ways) {
    const char* who = way.to_application ? "the application" : "the target";
    if (!way.to.wrong.empty()) violate(fmt::format("{} got a wrong byte: {}", who, way.to.wrong));
    if (way.to.received > way.from.sent) violate(fmt::format("{} got more than was sent", who));
    if (way.to.ended && !way.to.error.has_value() && !way.to.left && way.to.received < way.from_plan.send_bytes &&
        !MayEndEarly(way, outcome, traits)) {
      violate(
          fmt::format("{} heard an orderly end with {} bytes of {}", who, way.to.received, way.from_plan.send_bytes));
    }
  }
  const bool goes_well = !outcome.plan.application.leaves_after_bytes.has_value() &&
                         !outcome.plan.target.leaves_after_bytes.has_value() &&
                         (traits.carrier.half_close || !outcome.plan.application.ends_when_sent);
  if (!goes_well || outcome.whole()) return wrong;
  if (!traits.faults && !traits.channels_may_stop) violate("not all of it passed, and no fault was injected");
  // That its target was connected does not say that it was opened: an OPEN that was held for long comes to a server
  // whose client has given it up.
  const bool opened = outcome.application.received > 0 || outcome.target.received > 0;
  if (traits.carrier.outlives_channels && traits.faults && traits.sessions_hold && !outcome.application_hit &&
      !outcome.target_hit && (traits.openings_hold || opened)) {
    violate("not all of it passed, and no fault was one that it should not outlive");
  }
  return wrong;
}

}  // namespace tunnel::simulation
