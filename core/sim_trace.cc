#include "core/sim_trace.h"

#include <fmt/format.h>

#include <array>
#include <iterator>

namespace tunnel::core {
namespace {

constexpr auto kSimEventNames = std::to_array<const char*>({
#define TUNNEL_SIM_NAME(name, text) text,
    TUNNEL_SIM_EVENTS(TUNNEL_SIM_NAME)
#undef TUNNEL_SIM_NAME
});

// A word at a time, after FNV; good enough to tell two histories apart.
uint64_t Mix(uint64_t hash, uint64_t value) {
  hash = (hash ^ value) * 0x9fb21c651e98df25;
  return hash ^ (hash >> 32);
}

}  // namespace

void SimTrace::Add(TimePoint when, SimEvent event, uint64_t subject, uint64_t first, uint64_t second) {
  hash_ = Mix(hash_, static_cast<uint64_t>(when.time_since_epoch().count()));
  hash_ = Mix(hash_, static_cast<uint64_t>(event));
  hash_ = Mix(hash_, subject);
  hash_ = Mix(hash_, first);
  hash_ = Mix(hash_, second);
  const Line line{.when = when, .subject = subject, .first = first, .second = second, .event = event};
  if (lines_.size() < kept_) {
    lines_.push_back(line);
  } else if (kept_ > 0) {
    lines_[events_ % kept_] = line;
  }
  ++events_;
}

std::string SimTrace::Text(TimePoint start) const {
  std::string text;
  const size_t count = lines_.size();
  if (events_ > count) text = fmt::format("... {} events before these\n", events_ - count);
  for (size_t i = 0; i < count; ++i) {
    const Line& line = lines_[(events_ - count + i) % count];
    const double ms = std::chrono::duration<double, std::milli>(line.when - start).count();
    fmt::format_to(std::back_inserter(text), "{:12.3f} {:<13} #{} {} {}\n", ms,
                   kSimEventNames[static_cast<size_t>(line.event)], line.subject, line.first, line.second);
  }
  return text;
}

}  // namespace tunnel::core
