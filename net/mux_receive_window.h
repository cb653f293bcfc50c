// How far the peer of a stream of mux/2 may send, and when it is told: the receiving half of flow control.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/time.h"
#include "net/mux_budget.h"

namespace tunnel::net {

// The window starts at kMuxFirstWindowBytes. It doubles when more than half of it was consumed within a round trip: the
// peer was then held up by it, not by the path. It falls back when nothing was consumed for kMuxIdleWindowLimit.
class MuxReceiveWindow {
 public:
  explicit MuxReceiveWindow(MuxBudget& budget) : budget_(budget) {}
  MuxReceiveWindow(const MuxReceiveWindow&) = delete;
  MuxReceiveWindow& operator=(const MuxReceiveWindow&) = delete;

  // Nothing more will come: gives back what it took of the budget, which may go now.
  void Close() {
    budget_.ReturnWindow(size_ - kMuxFirstWindowBytes);
    size_ = kMuxFirstWindowBytes;
  }

  [[nodiscard]] uint64_t received() const { return received_; }
  [[nodiscard]] uint64_t consumed() const { return consumed_; }
  [[nodiscard]] uint64_t limit() const { return limit_; }
  [[nodiscard]] uint64_t size() const { return size_; }

  // Bytes came. False when they are more than were allowed.
  [[nodiscard]] bool OnReceived(size_t bytes) {
    if (bytes > limit_ - received_) return false;
    received_ += bytes;
    return true;
  }
  // Bytes went to the application. `round_trip` is the channel's, zero before it is known.
  void OnConsumed(size_t bytes, core::TimePoint now, core::Duration round_trip);

  // So much was consumed since the peer was last told that it should be told now.
  [[nodiscard]] bool credit_due() const { return consumed_ - told_consumed_ >= Step(); }
  // Something was.
  [[nodiscard]] bool credit_owed() const { return consumed_ != told_consumed_; }
  // The peer is told consumed() and limit(), which this moves on.
  void Tell();

 private:
  // Often enough that a peer is not held up for want of news, seldom enough to cost nothing.
  [[nodiscard]] uint64_t Step() const;

  MuxBudget& budget_;
  uint64_t received_ = 0;
  uint64_t consumed_ = 0;
  uint64_t told_consumed_ = 0;
  uint64_t size_ = kMuxFirstWindowBytes;
  uint64_t limit_ = kMuxFirstWindowBytes;
  // The round trip that is being watched: since when, and from which offset on.
  core::TimePoint watched_since_{};
  uint64_t watched_from_ = 0;
};

}  // namespace tunnel::net
