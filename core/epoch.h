// When memory that several threads read without a lock may be used again: epochs.
//
// A thread that uses structures of a domain is a participant of it. It announces the current epoch now and then, at
// moments at which it holds no reference into any of those structures: a reactor before and after it waits. The epoch
// advances when every participant that is online has announced the current one. What was made unreachable before
// Stamp() returned e is then referred to by nobody once the epoch is e + 2.
//
// Nobody ever waits: a participant that announces nothing for long keeps memory from being used again, and delays
// nothing else.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

namespace tunnel::core {

class EpochParticipant;

class EpochDomain {
 public:
  // For at most `capacity` participants at a time.
  explicit EpochDomain(unsigned capacity);
  EpochDomain(const EpochDomain&) = delete;
  EpochDomain& operator=(const EpochDomain&) = delete;
  // No participant may be left.
  ~EpochDomain();

  [[nodiscard]] unsigned capacity() const { return capacity_; }

  // What to remember of something that was made unreachable before this call, in program order. Any thread.
  [[nodiscard]] uint64_t Stamp() const {
    std::atomic_thread_fence(std::memory_order_seq_cst);  // [1] see epoch.cc
    return epoch_.load(std::memory_order_relaxed);
  }
  // Whether nobody can still refer to what was stamped so. True orders every read they made before what the caller does
  // next. Any thread.
  [[nodiscard]] bool Expired(uint64_t stamp) const { return epoch_.load(std::memory_order_acquire) >= stamp + 2; }
  // Advances the epoch when everybody has announced it; costs a look at every slot. Any thread.
  void TryAdvance();

 private:
  friend class EpochParticipant;
  // One participant's, on a cache line of its own: it is written every turn.
  struct alignas(64) Slot {
    // The epoch it announced, or kOffline. Stored with release by the participant only: orders its reads before
    // whatever follows from the epoch's advance.
    std::atomic<uint64_t> announced{0};
    // Set by a participant that takes the slot (acquire), cleared by one that leaves it (release), so that what belongs
    // to a slot passes from one to the next.
    std::atomic<bool> taken{false};
  };
  static constexpr uint64_t kOffline = 0;

  // Constant after construction.
  const unsigned capacity_;
  const std::unique_ptr<Slot[]> slots_;
  // Any thread. Only grows. A release by whoever advances it publishes what all participants did before they announced.
  alignas(64) std::atomic<uint64_t> epoch_{1};
};

// A thread's membership. Used by one thread only, but may pass to another while offline. References into structures of
// the domain may be held only while online, and not across a call of Quiesce().
class EpochParticipant {
 public:
  // Offline at first. `domain` must outlive it and have a slot left.
  explicit EpochParticipant(EpochDomain& domain);
  EpochParticipant(const EpochParticipant&) = delete;
  EpochParticipant& operator=(const EpochParticipant&) = delete;
  ~EpochParticipant();

  // Begins to hold references, or announces once more that none is held. A store, and a fence.
  void Quiesce() {
    const uint64_t epoch = domain_.epoch_.load(std::memory_order_relaxed);
    slot_.announced.store(epoch, std::memory_order_release);
    // [2] Nothing may be read before others see the announcement.
    std::atomic_thread_fence(std::memory_order_seq_cst);
  }
  // No reference is held until the next Quiesce(), however long that takes: before a thread sleeps. A store.
  void GoOffline() { slot_.announced.store(EpochDomain::kOffline, std::memory_order_release); }

  [[nodiscard]] bool OnlineIn(const EpochDomain& domain) const {
    return &domain == &domain_ && slot_.announced.load(std::memory_order_relaxed) != EpochDomain::kOffline;
  }
  [[nodiscard]] EpochDomain& domain() const { return domain_; }
  // Below the domain's capacity; no two participants have the same one at a time.
  [[nodiscard]] unsigned index() const { return index_; }

 private:
  static unsigned TakeSlot(EpochDomain& domain);

  EpochDomain& domain_;
  const unsigned index_;
  EpochDomain::Slot& slot_;
};

}  // namespace tunnel::core
