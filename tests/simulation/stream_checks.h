// What must be true of every stream of a run, whatever carried it and whatever went wrong: each byte came once and in
// order, or who waits for it was told.
#pragma once

#include <string>
#include <vector>

#include "party.h"
#include "stream_plan.h"

namespace tunnel::simulation {

struct StreamOutcome {
  StreamPlan plan;
  int times_connected = 0;  // the target's connections
  PartyRecord application;
  PartyRecord target;
  bool application_hit = false;  // a fault hit its own connection to the program
  bool target_hit = false;

  // Every byte went both ways.
  [[nodiscard]] bool whole() const {
    return application.received == plan.target.send_bytes && target.received == plan.application.send_bytes;
  }
};

struct RunTraits {
  CarrierTraits carrier;
  bool faults = false;  // any was injected
  // Streams may time out for want of a channel, all of which a reader who stops has stopped.
  bool channels_may_stop = false;
  // No fault was injected that may end a whole session, or fail an opening.
  bool sessions_hold = false;
  // Nor were connections frozen so often that all channels may have been away for as long as an opening waits.
  bool openings_hold = false;
};

// A line for each rule that is broken.
[[nodiscard]] std::vector<std::string> CheckStream(const StreamOutcome& outcome, const RunTraits& traits);

}  // namespace tunnel::simulation
