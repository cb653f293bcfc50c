#include "core/epoch.h"

#include "core/check.h"

// Why e + 2. Let X be made unreachable by thread U, which then stamps e, and let reader P have reached X. Suppose A
// advances the epoch from e + 1 to e + 2 before P announces again. The fences are [1] in Stamp(), [2] in Quiesce(), [3]
// in TryAdvance(), and all fences have one order.
//   [2] before [3]: A sees P's announcement, and must find e + 1 in it. Then P read e + 1 before [2], and U read e
//   after
//                   [1], so [1] is before [2]: P's reads see that X is unreachable.
//   [3] before [2]: A read e + 1 before [3], and U read e after [1], so [1] is before [3] and thus before [2]: the
//   same.
// Either way P cannot have reached X. An announcement of an epoch long gone only holds the epoch up.

namespace tunnel::core {

EpochDomain::EpochDomain(unsigned capacity) : capacity_(capacity), slots_(std::make_unique<Slot[]>(capacity)) {}

EpochDomain::~EpochDomain() {
  for (unsigned i = 0; i < capacity_; ++i) TUNNEL_CHECK(!slots_[i].taken.load(std::memory_order_acquire));
}

void EpochDomain::TryAdvance() {
  uint64_t epoch = epoch_.load(std::memory_order_acquire);
  std::atomic_thread_fence(std::memory_order_seq_cst);  // [3]
  for (unsigned i = 0; i < capacity_; ++i) {
    const uint64_t announced = slots_[i].announced.load(std::memory_order_acquire);
    if (announced != kOffline && announced != epoch) return;
  }
  // Somebody else may have advanced it meanwhile; once is as good as twice.
  (void)epoch_.compare_exchange_strong(epoch, epoch + 1, std::memory_order_acq_rel, std::memory_order_relaxed);
}

EpochParticipant::EpochParticipant(EpochDomain& domain)
    : domain_(domain), index_(TakeSlot(domain)), slot_(domain.slots_[index_]) {}

EpochParticipant::~EpochParticipant() {
  GoOffline();
  slot_.taken.store(false, std::memory_order_release);
}

unsigned EpochParticipant::TakeSlot(EpochDomain& domain) {
  for (unsigned i = 0; i < domain.capacity_; ++i) {
    bool taken = false;
    if (domain.slots_[i].taken.compare_exchange_strong(taken, true, std::memory_order_acquire,
                                                       std::memory_order_relaxed)) {
      return i;
    }
  }
  // How many threads there are is this program's own doing.
  constexpr bool kSlotLeft = false;
  TUNNEL_CHECK(kSlotLeft);
  return 0;
}

}  // namespace tunnel::core
