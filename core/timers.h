// A hierarchical timer wheel: arming, moving and cancelling cost O(1) whatever is armed; an idle wheel wakes nobody.
#pragma once

#include <absl/functional/any_invocable.h>

#include <array>
#include <cstdint>
#include <string>

#include "core/intrusive_list.h"
#include "core/time.h"

namespace tunnel::core {

class TimerWheel;

// Calls `expired` once, at or up to one tick (1 ms) after the time it was set for, from the reactor's turn. Set() moves
// an armed timer. Destroying it cancels it; `expired` may destroy or set its own timer. Owner core only.
class Timer : public ListLink<TimerWheel> {
 public:
  Timer(TimerWheel& wheel, absl::AnyInvocable<void()> expired) : wheel_(wheel), expired_(std::move(expired)) {}
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;
  ~Timer();
  void SetAt(TimePoint when);
  void SetAfter(Duration delay);
  void Cancel();
  [[nodiscard]] bool armed() const { return linked(); }

 private:
  friend class TimerWheel;
  TimerWheel& wheel_;
  absl::AnyInvocable<void()> expired_;
  uint64_t tick_ = 0;
  uint8_t level_ = 0;
  uint8_t slot_ = 0;
};

class TimerWheel {
 public:
  explicit TimerWheel(TimePoint now) : start_(now), now_(now) {}

  // Moves the wheel to `now` and calls every timer that is due.
  void Advance(TimePoint now);
  // When Advance() should be called next at the latest; kNever when no timer is armed. May be early, never late.
  [[nodiscard]] TimePoint NextDeadline() const;
  [[nodiscard]] TimePoint now() const { return now_; }
  // Tells the wheel the time without running timers, so that SetAfter() counts from it.
  void SetNow(TimePoint now) { now_ = now; }
  [[nodiscard]] size_t armed() const { return armed_; }

  // Whether every timer stands in the slot its time belongs to and the bitmaps agree; for tests.
  [[nodiscard]] bool Validate();
  // The armed timers by level and slot; for tests and debugging.
  [[nodiscard]] std::string Dump();

 private:
  friend class Timer;
  static constexpr int kLevels = 6;  // 64^6 ms: two years; what is set for later expires then
  static constexpr unsigned kSlotBits = 6;
  static constexpr unsigned kSlots = 1U << kSlotBits;
  struct Level {
    uint64_t occupied = 0;
    std::array<IntrusiveList<Timer, TimerWheel>, kSlots> slots;
  };

  [[nodiscard]] uint64_t TickOf(TimePoint when) const;  // rounded up
  // The first tick at which a timer is due or a slot must be spread; only when a timer is armed.
  [[nodiscard]] uint64_t NextTick() const;
  void Insert(Timer& timer);
  void Remove(Timer& timer);
  void Cascade(int level);

  const TimePoint start_;
  TimePoint now_;
  uint64_t current_tick_ = 0;
  size_t armed_ = 0;
  Timer* running_ = nullptr;  // whose callback runs now; null once it was destroyed
  std::array<Level, kLevels> levels_;
};

}  // namespace tunnel::core
