// Whether a recorded history of concurrent calls on one object is linearizable: whether the calls can be put in one
// order that respects which ended before which began, and in which a sequential object gives every result that was
// recorded. Source: Wing and Gong, "Testing and Verifying Concurrent Objects" (1993), with Lowe's memory of states that
// failed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <set>
#include <utility>
#include <vector>

namespace tunnel::core::testing {

// One call: what was asked and answered, and when it began and ended on a clock that all threads share.
template <typename Call>
struct HistoryEntry {
  Call call;
  int64_t begin = 0;
  int64_t end = 0;
};

// The calls of one thread, in the order it made them.
template <typename Call>
using ThreadHistory = std::vector<HistoryEntry<Call>>;

// `Model` is a sequential object of small copyable state: `bool Apply(const Call&)` changes it as the call would and
// says whether the call's recorded result is what it gives; it is ordered by operator<=>.
template <typename Model, typename Call>
bool IsLinearizable(const std::vector<ThreadHistory<Call>>& threads, const Model& initial) {
  // A thread's calls are one after another, so that a set of calls already placed is a number for each thread.
  using Progress = std::vector<size_t>;
  struct Configuration {
    Progress done;
    Model model;
  };
  std::vector<Configuration> open{{Progress(threads.size(), 0), initial}};
  std::set<std::pair<Progress, Model>> seen;
  while (!open.empty()) {
    const Configuration here = std::move(open.back());
    open.pop_back();
    // A call may be placed next when no call that is not placed yet had ended before it began.
    int64_t first_end = INT64_MAX;
    bool complete = true;
    for (size_t t = 0; t < threads.size(); ++t) {
      if (here.done[t] == threads[t].size()) continue;
      complete = false;
      first_end = std::min(first_end, threads[t][here.done[t]].end);
    }
    if (complete) return true;
    for (size_t t = 0; t < threads.size(); ++t) {
      if (here.done[t] == threads[t].size()) continue;
      const HistoryEntry<Call>& entry = threads[t][here.done[t]];
      if (entry.begin > first_end) continue;
      Configuration next = here;
      if (!next.model.Apply(entry.call)) continue;
      ++next.done[t];
      if (seen.emplace(next.done, next.model).second) open.push_back(std::move(next));
    }
  }
  return false;
}

}  // namespace tunnel::core::testing
