// Where a connection lives: from (session, stream id), or the id of a legacy connection, to the core that has it and
// what that core calls it. For look-ups that may cross cores; a core's own frames use its own table.
//
// Lock-free: no call waits for another thread, wherever that was stopped, and growing is a part of the calls that
// insert. Every call is linearizable: it takes effect at one moment between its beginning and its end. The system is
// asked for memory when the map is larger than it ever was, and for nothing else.
//
// A list of all entries, sorted by the hash of their keys, with a way into it for each of 2^k ranges of hashes. To
// grow, k becomes k + 1: nothing moves, each range is halved by the first call that looks into its upper half. Source:
// Shalev and Shavit, "Split-Ordered Lists" (2006), with Michael's list (2002), and the entries to the list in arrays of
// their own.
//
// Memory: 64 bytes an entry, and 16 bytes for each of the ranges, which are at most 4 an entry of the largest number
// the map ever had: 64 + 32 to 64 bytes an entry, 128 bytes at most, besides what epoch_pool.h says of nodes in limbo
// and of slabs, and 16 KiB to begin with. Not given back while the map lives.
#pragma once

#include <absl/functional/function_ref.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "core/epoch.h"
#include "core/epoch_pool.h"
#include "core/limits.h"
#include "core/sip_hash.h"

namespace tunnel::core {

// What a connection is known by. Made by the functions of ConnMap; only equality matters.
struct ConnKey {
  uint64_t low = 0;
  uint64_t high = 0;
  uint64_t kind_and_stream = 0;
  friend bool operator==(const ConnKey&, const ConnKey&) = default;
};

// Where it is.
struct ConnPlace {
  uint64_t handle =
      0;  // a pointer or an index, of which only the owning core knows what it means and whether it is good
  uint32_t core = 0;
  uint32_t generation = 0;  // grows each time the connection moves
  friend bool operator==(const ConnPlace&, const ConnPlace&) = default;
};

enum class ConnChange : uint8_t {
  kDone,
  kAbsent,  // there is no such connection
  kStale,   // it is there under another generation than the call is good for
};

class ConnMap {
 public:
  // Secrets from the system's random source, one set a process: for places in the map, and for legacy ids.
  struct Keys {
    SipHashKey placing;
    SipHashKey naming;
    // The bits of a key's hash that count for its place. Fewer in tests, for keys that share a place.
    uint64_t placing_mask = ~uint64_t{0};
  };
  // `bytes` from Reactor::FillRandom().
  [[nodiscard]] static Keys KeysFrom(std::span<const uint8_t, 32> bytes);

  // `domain` must outlive it. Throws nothing but std::bad_alloc, here and below.
  ConnMap(EpochDomain& domain, const Keys& keys);
  ConnMap(const ConnMap&) = delete;
  ConnMap& operator=(const ConnMap&) = delete;
  // Nobody may be using it. Entries that are left go with it; what their handles mean is not its business.
  ~ConnMap();

  // A stream of a mux/2 session.
  [[nodiscard]] static ConnKey StreamKey(std::span<const uint8_t, 16> session, uint32_t stream);
  // A connection of the legacy protocol. Its id is text that a peer chose, mostly but not always a UUID, so it is held
  // as 128 bits of keyed hash: of two ids that differ in anything, the chance of one key is 2^-128, and cannot be
  // raised by who does not know the key.
  [[nodiscard]] ConnKey LegacyKey(std::span<const uint8_t> id) const;

  // The calls below may be made by any thread, each for a participant of the map's domain of its own, which is online.
  // None keeps a reference: what is returned is a copy, and may be out of date by the time it is looked at.

  // Puts `place` under `key`. When there is something already, changes nothing and returns it.
  [[nodiscard]] std::optional<ConnPlace> Insert(EpochParticipant& self, const ConnKey& key, const ConnPlace& place);
  // But for the first look into a range after the map grew, writes nothing and never repeats a step because of others.
  [[nodiscard]] std::optional<ConnPlace> Find(EpochParticipant& self, const ConnKey& key);
  // Replaces what is under `key` when its generation is below that of `place`. At no moment is there nothing.
  [[nodiscard]] ConnChange Update(EpochParticipant& self, const ConnKey& key, const ConnPlace& place);
  // Removes what is under `key` when its generation is `generation`.
  [[nodiscard]] ConnChange Erase(EpochParticipant& self, const ConnKey& key, uint32_t generation);

  // How many entries there are, give or take those that are being inserted and erased. Any thread, no participant
  // needed.
  [[nodiscard]] size_t ApproximateSize() const;

  // For a walk over everything, in pieces between which a reactor may turn. Calls `visit` for about `limit` entries, a
  // few more at most, from `cursor` on (at first kScanBegin), and returns the cursor to go on from, kScanEnd at the
  // end. What is in the map throughout the walk is visited exactly once; what comes, goes, or is updated meanwhile at
  // most once, as it was at some moment of the walk. `visit` must not use the map.
  using Cursor = uint64_t;
  static constexpr Cursor kScanBegin = 0;
  static constexpr Cursor kScanEnd = ~Cursor{0};
  [[nodiscard]] Cursor Scan(EpochParticipant& self, Cursor cursor, size_t limit,
                            absl::FunctionRef<void(const ConnKey&, const ConnPlace&)> visit);

  // Ranges there are ways into, and bytes the map has of the system for entries and ranges. Any thread.
  [[nodiscard]] size_t ranges() const { return size_t{1} << level_.load(std::memory_order_relaxed); }
  [[nodiscard]] size_t memory_bytes() const;

  // Looks at every node and aborts if the list is not what it should be. Nobody else may be using the map.
  void Validate() const;

 private:
  // What is in the list: entries (Node), and the beginnings of ranges (Link alone).
  //
  // `next` is the address of what follows, or 0 at the end, and flags in the bits that an address leaves free. Every
  // store of an address is a release that publishes what it leads to; every load that is followed is an acquire.
  struct Link {
    std::atomic<uintptr_t> next{0};
    // What the list is sorted by; constant once others can see it. Odd for entries.
    uint64_t order = 0;
  };
  struct alignas(64) Node : Link {
    // Constant from when others can see the node until it is used again, an epoch later.
    ConnKey key;
    ConnPlace place;
  };
  static_assert(sizeof(Link) == 16 && sizeof(Node) == 64, "the header says what an entry costs");

  static constexpr uintptr_t kRemoved = 1;   // this entry is not in the map any more; its `next` stays as it is
  static constexpr uintptr_t kUnlinked = 2;  // this beginning may not be in the list yet
  static constexpr uintptr_t kEnd = 4;       // nothing follows; tells the end from a beginning never touched
  static constexpr uintptr_t kFlags = 7;

  // A place in the list: what comes before it, and that one's `next`.
  struct Spot {
    Link* before = nullptr;
    uintptr_t next = 0;
    Node* found = nullptr;     // an entry with the key that was sought, which follows
    uintptr_t found_next = 0;  // its `next` as it was found: not removed
  };

  // NOLINTNEXTLINE(performance-no-int-to-ptr): an address and flags are one word, so that they change together
  static Link* Target(uintptr_t next) { return reinterpret_cast<Link*>(next & ~kFlags); }
  static uintptr_t Address(const Link& link) { return reinterpret_cast<uintptr_t>(&link); }
  [[nodiscard]] uint64_t OrderOf(const ConnKey& key) const;

  [[nodiscard]] Link& Beginning(unsigned level, uint64_t range) const;
  [[nodiscard]] Link& Start(EpochParticipant& self, uint64_t order);
  bool TryLink(EpochParticipant& self, Link& from, Link& beginning, uint64_t order);
  [[nodiscard]] Spot Seek(EpochParticipant& self, Link& start, uint64_t order, const ConnKey* key);
  void Unlink(EpochParticipant& self, Link& start, Spot spot, uintptr_t successor);
  void CountInsert(EpochParticipant& self);
  void CountErase(EpochParticipant& self);
  void Grow();

  // One participant's count, on a cache line of its own; written by it alone, read by all.
  struct alignas(64) Count {
    std::atomic<int64_t> entries{0};  // inserted less erased: may be negative
    uint32_t inserts = 0;             // its own
  };

  // Constant after construction.
  EpochDomain& domain_;
  const Keys keys_;
  const std::unique_ptr<Count[]> counts_;
  // Any thread. The beginnings that level k brought, one for each odd multiple of 2^(64 - k), in arrays from the
  // system; null until then. Stored once, with release: publishes that the array is zeroed.
  std::array<std::atomic<Link*>, kConnMapMaxLevel + 1> segments_{};
  // k: there are 2^k ranges. Only grows. A release: publishes the segments up to k.
  std::atomic<unsigned> level_{0};
  EpochPool<Node> pool_;
};

}  // namespace tunnel::core
