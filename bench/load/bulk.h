// Bulk transfer through a tunnel: streams that send, or receive, as much as goes for a given time.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bench/load/sockets.h"

namespace tunnel::bench {

enum class Direction { kUp, kDown };

struct BulkOptions {
  Endpoint to;
  Direction direction = Direction::kUp;
  uint32_t streams = 1;
  uint32_t duration_ms = 1000;
  uint32_t grace_ms = 60'000;  // how long what is under way may take to arrive afterwards
};

struct BulkResult {
  // Per stream, what its receiver had by the end of the duration. The clock starts when all streams are connected
  // and the first byte is sent (down) or received (up).
  std::vector<uint64_t> window_bytes;
  uint64_t total_bytes = 0;  // with what arrived afterwards; checked against what was sent
  double elapsed_seconds = 0;
  std::string congestion_control;
};

// Throws when a stream fails, a byte is missing, or the time is up.
BulkResult RunBulk(const BulkOptions& options);

}  // namespace tunnel::bench
