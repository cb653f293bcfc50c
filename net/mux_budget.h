// What the streams of mux/2 on one core may hold in memory together.
#pragma once

#include <cstddef>
#include <cstdint>

#include "net/limits.h"

namespace tunnel::net {

// Two sums: how much further than their first window streams have invited their peers to send, and what they keep of
// bytes until they are confirmed or taken. Owner core only.
class MuxBudget {
 public:
  explicit MuxBudget(size_t window_bytes = kMuxWindowBudgetBytes, size_t held_bytes = kMuxHeldBudgetBytes)
      : window_bytes_(window_bytes), held_bytes_(held_bytes) {}

  // Room for a window to grow by `bytes`; false when there is none.
  [[nodiscard]] bool TakeWindow(uint64_t bytes) {
    if (bytes > window_bytes_ - windows_) return false;
    windows_ += bytes;
    return true;
  }
  void ReturnWindow(uint64_t bytes) { windows_ -= bytes; }

  void Hold(size_t bytes) { held_ += bytes; }
  void LetGo(size_t bytes) { held_ -= bytes; }
  // Streams that hold something must not take more, and new ones are refused.
  [[nodiscard]] bool exhausted() const { return held_ >= held_bytes_; }
  [[nodiscard]] size_t held() const { return held_; }
  [[nodiscard]] uint64_t windows() const { return windows_; }

 private:
  const uint64_t window_bytes_;
  const size_t held_bytes_;
  uint64_t windows_ = 0;
  size_t held_ = 0;
};

}  // namespace tunnel::net
