// A bounded queue from one core to another: single producer, single consumer, no lock.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <utility>

namespace tunnel::core {

template <typename T, size_t kCapacity>
class Mailbox {
  static_assert((kCapacity & (kCapacity - 1)) == 0, "an index is masked, not divided");

 public:
  // Producer only. False, leaving `message` as it was, when the box is full.
  [[nodiscard]] bool Push(T& message) {
    const size_t tail = tail_.load(std::memory_order_relaxed);
    if (tail - head_.load(std::memory_order_acquire) == kCapacity) return false;
    slots_[tail & (kCapacity - 1)] = std::move(message);
    tail_.store(tail + 1, std::memory_order_release);  // publishes the slot
    return true;
  }
  // Consumer only. False when the box is empty.
  [[nodiscard]] bool Pop(T& message) {
    const size_t head = head_.load(std::memory_order_relaxed);
    if (head == tail_.load(std::memory_order_acquire)) return false;
    message = std::move(slots_[head & (kCapacity - 1)]);
    head_.store(head + 1, std::memory_order_release);  // gives the slot back
    return true;
  }

 private:
  // Each index on its own cache line: the two cores would otherwise fight over one.
  alignas(64) std::atomic<size_t> head_{0};
  alignas(64) std::atomic<size_t> tail_{0};
  alignas(64) std::array<T, kCapacity> slots_;
};

}  // namespace tunnel::core
