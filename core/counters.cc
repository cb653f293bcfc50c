#include "core/counters.h"

#include <fmt/format.h>

namespace tunnel::core {

std::string DescribeCounters(const std::vector<const Counters*>& cores) {
  std::string text;
  const auto append = [&](const char* name, Counter Counters::* counter) {
    int64_t sum = 0;
    for (const Counters* core : cores) sum += (core->*counter).Get();
    text += fmt::format("{}{}={}", text.empty() ? "" : " ", name, sum);
  };
#define TUNNEL_APPEND_COUNTER(name) append(#name, &Counters::name);
  TUNNEL_COUNTERS(TUNNEL_APPEND_COUNTER)
#undef TUNNEL_APPEND_COUNTER
  return text;
}

}  // namespace tunnel::core
