// Which stream ids of a session's client its server has seen, so that an OPEN that comes late, on a channel that was
// given up, does not connect a target a second time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>

namespace tunnel::net {

// Odd ids as ranges: they are given out in order and come nearly so, which leaves one range and a few more for what is
// on its way. A peer that picks them to make ranges is stopped at a bound.
class MuxSeenIds {
 public:
  [[nodiscard]] bool Contains(uint32_t id) const {
    const auto after = ranges_.upper_bound(id);
    return after != ranges_.begin() && std::prev(after)->second >= id;
  }
  // Adds an id that is not there.
  void Add(uint32_t id) {
    const auto after = ranges_.upper_bound(id);
    const bool joins_after = after != ranges_.end() && uint64_t{id} + 2 == after->first;
    if (after != ranges_.begin()) {
      const auto before = std::prev(after);
      if (uint64_t{before->second} + 2 == id) {
        before->second = joins_after ? after->second : id;
        if (joins_after) ranges_.erase(after);
        return;
      }
    }
    const uint32_t last = joins_after ? after->second : id;
    if (joins_after) ranges_.erase(after);
    ranges_.emplace(id, last);
  }
  [[nodiscard]] size_t ranges() const { return ranges_.size(); }

 private:
  std::map<uint32_t, uint32_t> ranges_;  // first id to last
};

}  // namespace tunnel::net
