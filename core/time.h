// Time as everything above core/ sees it: points on the reactor's monotonic clock and durations between them.
// Nothing here reads a clock; Reactor::Now() does, so that the simulation can own time.
#pragma once

#include <chrono>
#include <cstdint>

namespace tunnel::core {

using Duration = std::chrono::nanoseconds;
using TimePoint = std::chrono::time_point<std::chrono::steady_clock, Duration>;

inline constexpr TimePoint kNever = TimePoint::max();

[[nodiscard]] constexpr int64_t ToMilliseconds(Duration d) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(d).count();
}

}  // namespace tunnel::core
