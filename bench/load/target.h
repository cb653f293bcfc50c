// The far end of a measurement: takes uploads, makes downloads, sends requests back.
#pragma once

#include "bench/load/sockets.h"

namespace tunnel::bench {

// Serves at `at` (port 0: any) until SIGTERM or SIGINT, and prints {"port": N} once it listens. A connection
// that breaks is named on standard error and counts as a failure. Returns the exit status.
int RunTarget(const Endpoint& at);

}  // namespace tunnel::bench
