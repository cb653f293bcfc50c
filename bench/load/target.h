// The far end of a measurement: takes uploads, makes downloads, sends requests back.
#pragma once

#include <cstdint>

namespace tunnel::bench {

// Serves on 127.0.0.1:`port` (0: any) until SIGTERM or SIGINT, and prints {"port": N} once it listens. A connection
// that breaks is named on standard error and counts as a failure. Returns the exit status.
int RunTarget(uint16_t port);

}  // namespace tunnel::bench
