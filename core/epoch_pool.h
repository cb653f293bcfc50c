// Memory for the nodes of a lock-free structure: nodes of one type that are used again when nobody can refer to them
// any more, without a lock and without asking the system for memory but to grow.
//
// Every participant of the domain has a cache of its own: a bag of nodes to take from, a bag it puts what it retires
// in, and full bags that wait for their epoch to expire (limbo). A thread that retires more than it takes passes full
// bags on through a stack that all share, so that streams opened on one core and closed on another do not pile up
// there.
//
// Memory is never given back before the pool ends: nodes that exist are at most those that were in use at a time, those
// in limbo (what two advances of the epoch take), and a slab and (kKeptBags + 2) * kNodesPerBag a participant. Each
// costs sizeof(Node), and 8 bytes more while it is in a bag. A slab is 64 KiB, and 2 MiB when the pool has as much
// already.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <type_traits>
#include <utility>
#include <vector>

#include "core/check.h"
#include "core/epoch.h"
#include "core/pages.h"

namespace tunnel::core {

// A `Node` is constructed when it is taken for the first time, and holds what it held before when it is taken again.
template <typename Node>
class EpochPool {
 public:
  static constexpr size_t kNodesPerBag = 61;
  static constexpr size_t kSlabBytes = size_t{64} * 1024;
  static constexpr size_t kLargeSlabBytes = kHugePageBytes;
  // Expired bags that a participant keeps to take from itself before it passes them on.
  static constexpr size_t kKeptBags = 4;

  explicit EpochPool(EpochDomain& domain) : domain_(domain), caches_(domain.capacity()) {}
  EpochPool(const EpochPool&) = delete;
  EpochPool& operator=(const EpochPool&) = delete;
  // Nobody uses it or its nodes any more.
  ~EpochPool() {
    for (std::unique_ptr<Cache>& cache : caches_) {
      if (cache == nullptr) continue;
      delete cache->free;
      delete cache->retiring;
      DeleteChain(cache->empty);
      DeleteChain(cache->limbo_first);
    }
    DeleteChain(shared_.load(std::memory_order_acquire));
    for (Slab* slab = slabs_.load(std::memory_order_acquire); slab != nullptr;) {
      Slab* next = slab->next;
      UnmapPages(slab, slab->bytes);
      slab = next;
    }
  }

  // The calls below: any thread, for its own participant, which is online.

  // A node that nobody else refers to. Asks the system for memory when none is free; std::bad_alloc when it has none.
  [[nodiscard]] Node& Take(EpochParticipant& self) {
    Cache& cache = CacheOf(self);
    if (cache.free->count == 0) Refill(cache);
    if (cache.free->count > 0) return *cache.free->nodes[--cache.free->count];
    if (cache.fresh_left == 0) AddSlab(cache);
    --cache.fresh_left;
    return *new (std::exchange(cache.fresh, cache.fresh + sizeof(Node))) Node();
  }
  // Takes back what this participant's last Take() returned and nobody else has seen.
  void PutBack(EpochParticipant& self, Node& node) {
    Bag& free = *CacheOf(self).free;
    TUNNEL_CHECK(free.count < kNodesPerBag);  // there is room for what was just taken
    free.nodes[free.count++] = &node;
  }
  // Takes a node that nobody can reach any more, though others may still refer to it. Once a node.
  void Retire(EpochParticipant& self, Node& node) {
    Cache& cache = CacheOf(self);
    Bag& bag = *cache.retiring;
    bag.nodes[bag.count++] = &node;
    if (bag.count == kNodesPerBag) Seal(cache);
  }

  // What the pool has of the system for nodes. Any thread.
  [[nodiscard]] size_t memory_bytes() const { return slab_bytes_.load(std::memory_order_relaxed); }

 private:
  struct Bag {
    // Means something only in a chain. Atomic because a thread that is about to lose the race for this bag reads it
    // while its new owner writes.
    std::atomic<Bag*> next{nullptr};
    uint64_t stamp = 0;  // in limbo: when the last of the nodes had become unreachable
    size_t count = 0;
    Node* nodes[kNodesPerBag] = {};
  };

  // At the beginning of its memory; nodes are the rest.
  struct alignas(Node) Slab {
    Slab* next;
    size_t bytes;
  };
  static_assert(std::is_trivially_destructible_v<Node>, "nodes are given back without a word");

  // One participant's; touched by its thread only. Passes to the slot's next participant with the slot.
  struct alignas(64) Cache {
    Bag* free = nullptr;         // never null once made, often empty
    Bag* retiring = nullptr;     // never null once made, never full
    Bag* empty = nullptr;        // a chain
    Bag* limbo_first = nullptr;  // a chain, oldest stamp first
    Bag* limbo_last = nullptr;
    size_t limbo_bags = 0;
    std::byte* fresh = nullptr;  // the part of a slab that was never used
    size_t fresh_left = 0;
  };

  [[nodiscard]] Cache& CacheOf(EpochParticipant& self) {
    std::unique_ptr<Cache>& cache = caches_[self.index()];
    if (cache == nullptr) [[unlikely]] {
      cache = std::make_unique<Cache>();
      cache->free = new Bag;
      cache->retiring = new Bag;
    }
    return *cache;
  }

  static void DeleteChain(Bag* bag) {
    while (bag != nullptr) delete std::exchange(bag, bag->next.load(std::memory_order_relaxed));
  }

  // Finds a bag of free nodes, if there is one, for the empty one that the cache has.
  void Refill(Cache& cache) {
    Bag* bag = cache.limbo_first;
    if (bag != nullptr && domain_.Expired(bag->stamp)) {
      PopLimbo(cache);
    } else {
      bag = PopShared();
      if (bag == nullptr) return;
    }
    PushEmpty(cache, cache.free);
    cache.free = bag;
  }

  void AddSlab(Cache& cache) {
    // What waits in limbo may be had instead the next time.
    domain_.TryAdvance();
    const size_t bytes = memory_bytes() < kLargeSlabBytes ? kSlabBytes : kLargeSlabBytes;
    void* pages = MapPages(bytes);
    if (pages == nullptr) throw std::bad_alloc();
    Slab* slab = new (pages) Slab{.next = slabs_.load(std::memory_order_relaxed), .bytes = bytes};
    while (!slabs_.compare_exchange_weak(slab->next, slab, std::memory_order_release, std::memory_order_relaxed)) {
    }
    slab_bytes_.fetch_add(bytes, std::memory_order_relaxed);
    cache.fresh = static_cast<std::byte*>(pages) + sizeof(Slab);
    cache.fresh_left = (bytes - sizeof(Slab)) / sizeof(Node);
  }

  void Seal(Cache& cache) {
    Bag* bag = cache.retiring;
    bag->stamp = domain_.Stamp();
    bag->next.store(nullptr, std::memory_order_relaxed);
    if (cache.limbo_first == nullptr) {
      cache.limbo_first = bag;
    } else {
      cache.limbo_last->next.store(bag, std::memory_order_relaxed);
    }
    cache.limbo_last = bag;
    ++cache.limbo_bags;
    domain_.TryAdvance();
    while (cache.limbo_bags > kKeptBags && domain_.Expired(cache.limbo_first->stamp)) {
      Bag* surplus = cache.limbo_first;
      PopLimbo(cache);
      PushShared(surplus);
    }
    cache.retiring = PopEmpty(cache);
  }

  void PopLimbo(Cache& cache) {
    cache.limbo_first = cache.limbo_first->next.load(std::memory_order_relaxed);
    --cache.limbo_bags;
  }

  static void PushEmpty(Cache& cache, Bag* bag) {
    bag->next.store(cache.empty, std::memory_order_relaxed);
    cache.empty = bag;
  }
  static Bag* PopEmpty(Cache& cache) {
    Bag* bag = cache.empty;
    if (bag == nullptr) return new Bag;
    cache.empty = bag->next.load(std::memory_order_relaxed);
    return bag;
  }

  // Only a bag that has just come out of limbo is pushed. So a thread that is in PopShared() and has read `head` cannot
  // see that bag popped and pushed again meanwhile (ABA): between lies an epoch that this thread, online, holds up.
  void PushShared(Bag* bag) {
    Bag* head = shared_.load(std::memory_order_relaxed);
    do {
      bag->next.store(head, std::memory_order_relaxed);
    } while (!shared_.compare_exchange_weak(head, bag, std::memory_order_release, std::memory_order_relaxed));
  }
  Bag* PopShared() {
    Bag* head = shared_.load(std::memory_order_acquire);
    while (head != nullptr && !shared_.compare_exchange_weak(head, head->next.load(std::memory_order_relaxed),
                                                             std::memory_order_acquire, std::memory_order_acquire)) {
    }
    return head;
  }

  EpochDomain& domain_;
  // By index of the participant; each element is that participant's.
  std::vector<std::unique_ptr<Cache>> caches_;
  // Any thread. A push releases the nodes in the bag, with all that was ever done to them; a pop acquires them.
  alignas(64) std::atomic<Bag*> shared_{nullptr};
  std::atomic<Slab*> slabs_{nullptr};
  std::atomic<size_t> slab_bytes_{0};
};

}  // namespace tunnel::core
