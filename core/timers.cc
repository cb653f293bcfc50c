#include "core/timers.h"

#include <algorithm>
#include <bit>

namespace tunnel::core {
namespace {

constexpr Duration kTick = std::chrono::milliseconds(1);

}  // namespace

Timer::~Timer() {
  Cancel();
  if (wheel_.running_ == this) wheel_.running_ = nullptr;
}

void Timer::SetAt(TimePoint when) {
  Cancel();
  tick_ = wheel_.TickOf(when);
  wheel_.Insert(*this);
}

void Timer::SetAfter(Duration delay) {
  // A delay without end must not wrap round into the past.
  SetAt(delay < kNever - wheel_.now() ? wheel_.now() + delay : kNever);
}

void Timer::Cancel() {
  if (armed()) wheel_.Remove(*this);
}

uint64_t TimerWheel::TickOf(TimePoint when) const {
  if (when <= start_) return 0;
  const Duration since = when - start_;
  return static_cast<uint64_t>(since / kTick) + (since % kTick == Duration::zero() ? 0 : 1);
}

void TimerWheel::Insert(Timer& timer) {
  constexpr uint64_t kSpan = uint64_t{1} << (kSlotBits * kLevels);
  // A timer that is due goes into the next tick: Advance() has left the current one.
  timer.tick_ = std::clamp(timer.tick_, current_tick_ + 1, current_tick_ + kSpan - 1);
  // The level is that of the highest digit in which the timer's tick differs from the current one.
  const uint64_t difference = timer.tick_ ^ current_tick_;
  int level = (63 - std::countl_zero(difference)) / static_cast<int>(kSlotBits);
  level = std::min(level, kLevels - 1);
  const auto slot = static_cast<unsigned>(timer.tick_ >> (kSlotBits * static_cast<unsigned>(level))) & (kSlots - 1);
  timer.level_ = static_cast<uint8_t>(level);
  timer.slot_ = static_cast<uint8_t>(slot);
  levels_[static_cast<size_t>(level)].slots[slot].PushBack(timer);
  levels_[static_cast<size_t>(level)].occupied |= uint64_t{1} << slot;
  ++armed_;
}

void TimerWheel::Remove(Timer& timer) {
  Level& level = levels_[timer.level_];
  timer.Unlink();
  if (level.slots[timer.slot_].empty()) level.occupied &= ~(uint64_t{1} << timer.slot_);
  --armed_;
}

// Spreads the timers of the slot that `level` has just reached over the levels below.
void TimerWheel::Cascade(int level) {
  Level& from = levels_[static_cast<size_t>(level)];
  const auto slot = static_cast<unsigned>(current_tick_ >> (kSlotBits * static_cast<unsigned>(level))) & (kSlots - 1);
  if ((from.occupied & (uint64_t{1} << slot)) == 0) return;
  IntrusiveList<Timer, TimerWheel> moving;
  moving.Append(from.slots[slot]);
  from.occupied &= ~(uint64_t{1} << slot);
  while (!moving.empty()) {
    Timer& timer = moving.PopFront();
    --armed_;
    if (timer.tick_ <= current_tick_) {
      // Due at exactly this tick: level 0's current slot, which Advance() empties next.
      timer.level_ = 0;
      timer.slot_ = static_cast<uint8_t>(current_tick_ & (kSlots - 1));
      levels_[0].slots[timer.slot_].PushBack(timer);
      levels_[0].occupied |= uint64_t{1} << timer.slot_;
      ++armed_;
    } else {
      Insert(timer);
    }
  }
}

void TimerWheel::Advance(TimePoint now) {
  now_ = std::max(now_, now);
  const auto target = static_cast<uint64_t>((now_ - start_) / kTick);
  while (current_tick_ < target) {
    // Straight to the next tick at which there is something to do, however far it is.
    const uint64_t next = armed_ == 0 ? target + 1 : NextTick();
    if (next > target) {
      current_tick_ = target;
      return;
    }
    current_tick_ = next;
    for (int level = 1; level < kLevels; ++level) {
      const unsigned shift = kSlotBits * static_cast<unsigned>(level);
      if ((current_tick_ & ((uint64_t{1} << shift) - 1)) != 0) break;
      Cascade(level);
    }
    const auto slot = static_cast<unsigned>(current_tick_ & (kSlots - 1));
    IntrusiveList<Timer, TimerWheel>& due = levels_[0].slots[slot];
    // Timers set by these callbacks go to later ticks, so this ends.
    while (!due.empty()) {
      Timer& timer = due.front();
      Remove(timer);
      // Moved out while it runs: the callback may destroy its timer, which then clears `running_`.
      absl::AnyInvocable<void()> expired = std::move(timer.expired_);
      running_ = &timer;
      expired();
      if (running_ != nullptr) timer.expired_ = std::move(expired);
      running_ = nullptr;
    }
  }
}

TimePoint TimerWheel::NextDeadline() const {
  return armed_ == 0 ? kNever : start_ + kTick * static_cast<int64_t>(NextTick());
}

uint64_t TimerWheel::NextTick() const {
  for (int level = 0; level < kLevels; ++level) {
    const uint64_t occupied = levels_[static_cast<size_t>(level)].occupied;
    if (occupied == 0) continue;
    const unsigned shift = kSlotBits * static_cast<unsigned>(level);
    const auto position = static_cast<unsigned>(current_tick_ >> shift) & (kSlots - 1);
    // Slots ahead of the position belong to this turn of the level; the top level may also hold wrapped ones.
    const uint64_t ahead = position == kSlots - 1 ? 0 : occupied & (~uint64_t{0} << (position + 1));
    const uint64_t base = current_tick_ >> (shift + kSlotBits) << (shift + kSlotBits);
    if (ahead != 0) return base + (static_cast<uint64_t>(std::countr_zero(ahead)) << shift);
    return base + ((uint64_t{kSlots} + static_cast<uint64_t>(std::countr_zero(occupied))) << shift);
  }
  TUNNEL_CHECK(false);
  return 0;
}

bool TimerWheel::Validate() {
  size_t found = 0;
  bool sound = true;
  for (size_t level = 0; level < kLevels; ++level) {
    for (size_t slot = 0; slot < kSlots; ++slot) {
      sound &= levels_[level].slots[slot].Validate();
      const bool bit = (levels_[level].occupied >> slot & 1) != 0;
      sound &= bit == !levels_[level].slots[slot].empty();
      levels_[level].slots[slot].ForEach([&](const Timer& timer) {
        ++found;
        sound &= timer.level_ == level && timer.slot_ == slot && timer.tick_ > current_tick_;
        sound &= (timer.tick_ >> (kSlotBits * level) & (kSlots - 1)) == slot;
      });
    }
  }
  return sound && found == armed_;
}

std::string TimerWheel::Dump() {
  std::string text = "tick " + std::to_string(current_tick_) + ":";
  for (size_t level = 0; level < kLevels; ++level) {
    for (size_t slot = 0; slot < kSlots; ++slot) {
      levels_[level].slots[slot].ForEach([&](const Timer& timer) {
        text += " " + std::to_string(level) + "/" + std::to_string(slot) + "@" + std::to_string(timer.tick_);
      });
    }
  }
  return text;
}

}  // namespace tunnel::core
