#include "net/mux_receive_window.h"

#include <algorithm>

namespace tunnel::net {

void MuxReceiveWindow::OnConsumed(size_t bytes, core::TimePoint now, core::Duration round_trip) {
  if (now - watched_since_ >= kMuxIdleWindowLimit && size_ > kMuxFirstWindowBytes) {
    // What was promised stays promised: limit_ goes on where it is until consumed_ has come near it.
    budget_.ReturnWindow(size_ - kMuxFirstWindowBytes);
    size_ = kMuxFirstWindowBytes;
    // What came before the pause says nothing about the path behind it.
    watched_since_ = now;
    watched_from_ = consumed_;
  }
  consumed_ += bytes;
  const core::Duration watched = now - watched_since_;
  if (round_trip == core::Duration::zero() || watched < round_trip) return;
  const double in_a_round_trip = static_cast<double>(consumed_ - watched_from_) *
                                 (static_cast<double>(round_trip.count()) / static_cast<double>(watched.count()));
  const bool held_up = in_a_round_trip > static_cast<double>(size_) / 2;
  watched_since_ = now;
  watched_from_ = consumed_;
  if (!held_up || size_ >= kMuxMaxWindowBytes) return;
  const uint64_t growth = std::min(size_, kMuxMaxWindowBytes - size_);
  if (budget_.TakeWindow(growth)) size_ += growth;
}

void MuxReceiveWindow::Tell() {
  told_consumed_ = consumed_;
  limit_ = std::max(limit_, consumed_ + size_);
}

uint64_t MuxReceiveWindow::Step() const { return std::min(size_ / 4, kMuxMaxCreditStepBytes); }

}  // namespace tunnel::net
