#include "core/conn_map.h"

#include <algorithm>
#include <bit>
#include <new>

#include "core/check.h"
#include "core/pages.h"

namespace tunnel::core {
namespace {

constexpr uint64_t kStreamKind = 0;
constexpr uint64_t kLegacyKind = 1;

uint64_t LittleEndianWord(std::span<const uint8_t> bytes) {
  uint64_t word = 0;
  for (size_t i = 0; i < 8; ++i) word |= uint64_t{bytes[i]} << (8 * i);
  return word;
}

}  // namespace

ConnMap::Keys ConnMap::KeysFrom(std::span<const uint8_t, 32> bytes) {
  return {.placing = {LittleEndianWord(bytes.subspan(0, 8)), LittleEndianWord(bytes.subspan(8, 8))},
          .naming = {LittleEndianWord(bytes.subspan(16, 8)), LittleEndianWord(bytes.subspan(24, 8))}};
}

ConnKey ConnMap::StreamKey(std::span<const uint8_t, 16> session, uint32_t stream) {
  return {LittleEndianWord(session.first<8>()), LittleEndianWord(session.last<8>()), kStreamKind << 32 | stream};
}

ConnKey ConnMap::LegacyKey(std::span<const uint8_t> id) const {
  const SipHash128 hash = SipHash24Wide(keys_.naming, id);
  return {hash.low, hash.high, kLegacyKind << 32};
}

ConnMap::ConnMap(EpochDomain& domain, const Keys& keys)
    : domain_(domain),
      keys_{keys.placing, keys.naming, keys.placing_mask & ~uint64_t{2}},
      counts_(std::make_unique<Count[]>(domain.capacity())),
      pool_(domain) {
  auto* links = static_cast<Link*>(MapPages(sizeof(Link) << kConnMapMinLevel));
  if (links == nullptr) throw std::bad_alloc();
  // Level k brings half of all beginnings, those at odd multiples, so the first levels fill one array side by side.
  segments_[0].store(links, std::memory_order_relaxed);
  for (unsigned level = 1; level <= kConnMapMinLevel; ++level) {
    segments_[level].store(links + (size_t{1} << (level - 1)), std::memory_order_relaxed);
  }
  links->next.store(kEnd, std::memory_order_relaxed);
  level_.store(kConnMapMinLevel, std::memory_order_release);
}

ConnMap::~ConnMap() {
  UnmapPages(segments_[0].load(std::memory_order_acquire), sizeof(Link) << kConnMapMinLevel);
  for (unsigned level = kConnMapMinLevel + 1; level <= kConnMapMaxLevel; ++level) {
    Link* segment = segments_[level].load(std::memory_order_acquire);
    if (segment != nullptr) UnmapPages(segment, sizeof(Link) << (level - 1));
  }
}

uint64_t ConnMap::OrderOf(const ConnKey& key) const {
  // Odd, so that it differs from every beginning's; never kScanEnd.
  return (SipHash13(keys_.placing, {key.low, key.high, key.kind_and_stream}) & keys_.placing_mask) | 1;
}

// Where hashes of `range` begin when there are 2^level ranges.
ConnMap::Link& ConnMap::Beginning(unsigned level, uint64_t range) const {
  if (range == 0) return segments_[0].load(std::memory_order_relaxed)[0];
  const auto doublings = static_cast<unsigned>(std::countr_zero(range));  // since this beginning came
  // Relaxed: the caller's load of level_ has acquired it.
  return segments_[level - doublings].load(std::memory_order_relaxed)[range >> doublings >> 1];
}

// The last beginning in the list that is not above `order`; with exceptions, in which an earlier one is as right and
// only slower. Links what was never looked into since the map grew.
ConnMap::Link& ConnMap::Start(EpochParticipant& self, uint64_t order) {
  const auto is_linked = [](const Link& link) {
    const uintptr_t next = link.next.load(std::memory_order_acquire);
    return next != 0 && (next & kUnlinked) == 0;
  };
  const unsigned level = level_.load(std::memory_order_acquire);
  uint64_t range = order >> (64 - level);
  Link* start = &Beginning(level, range);
  if (is_linked(*start)) [[likely]]
    return *start;

  // Without its lowest bit a range's number is that of the range it was split off. The first of all is always linked.
  std::array<uint64_t, kConnMapMaxLevel> missing{};
  size_t count = 0;
  while (!is_linked(*start)) {
    missing[count++] = range;
    range &= range - 1;
    start = &Beginning(level, range);
  }
  while (count > 0) {
    range = missing[--count];
    Link& beginning = Beginning(level, range);
    if (TryLink(self, *start, beginning, range << (64 - level))) start = &beginning;
  }
  return *start;
}

// Puts `beginning` into the list behind `from`, unless somebody else is about to or is in the way: then a later call
// will.
bool ConnMap::TryLink(EpochParticipant& self, Link& from, Link& beginning, uint64_t order) {
  uintptr_t untouched = 0;
  // From here on it is this call's alone, until it is linked or given up.
  if (!beginning.next.compare_exchange_strong(untouched, kUnlinked, std::memory_order_acquire,
                                              std::memory_order_relaxed)) {
    return false;
  }
  beginning.order = order;
  Spot spot = Seek(self, from, order, nullptr);
  beginning.next.store(spot.next | kUnlinked, std::memory_order_relaxed);
  if (!spot.before->next.compare_exchange_strong(spot.next, Address(beginning) | (spot.next & kUnlinked),
                                                 std::memory_order_release, std::memory_order_relaxed)) {
    beginning.next.store(0, std::memory_order_release);
    return false;
  }
  // Others may have put entries behind it already; they keep the flag.
  beginning.next.fetch_and(~kUnlinked, std::memory_order_release);
  return true;
}

// Finds where an entry or beginning of `order` is or belongs: behind everything of a lower or the same order. `start`
// is a beginning, and so never removed. Unlinks the removed entries it meets. Begins again when the entry it stands on
// is removed under it, which means that another call got somewhere.
ConnMap::Spot ConnMap::Seek(EpochParticipant& self, Link& start, uint64_t order, const ConnKey* key) {
  Spot spot{.before = &start, .next = start.next.load(std::memory_order_acquire)};
  for (;;) {
    Link* at = Target(spot.next);
    if (at == nullptr) return spot;
    const uintptr_t next = at->next.load(std::memory_order_acquire);
    if ((next & kRemoved) != 0) {
      const uintptr_t successor = (next & ~kRemoved) | (spot.next & kUnlinked);
      if (spot.before->next.compare_exchange_strong(spot.next, successor, std::memory_order_release,
                                                    std::memory_order_acquire)) {
        // Only one exchange can take it out, for only one link that is not removed leads to it.
        pool_.Retire(self, static_cast<Node&>(*at));
        spot.next = successor;
      } else if ((spot.next & kRemoved) != 0) {
        spot = {.before = &start, .next = start.next.load(std::memory_order_acquire)};
      }
      continue;
    }
    if (at->order > order) return spot;
    if (at->order == order && key != nullptr) {
      auto& node = static_cast<Node&>(*at);
      if (node.key == *key) {
        spot.found = &node;
        spot.found_next = next;
        return spot;
      }
    }
    spot.before = at;
    spot.next = next;
  }
}

// Takes `spot.found`, which this call has removed, out of the list, or sees that somebody does.
void ConnMap::Unlink(EpochParticipant& self, Link& start, Spot spot, uintptr_t successor) {
  if (spot.before->next.compare_exchange_strong(spot.next, successor | (spot.next & kUnlinked),
                                                std::memory_order_release, std::memory_order_relaxed)) {
    pool_.Retire(self, *spot.found);
  } else {
    // Past what is being unlinked: it is of the same order.
    (void)Seek(self, start, spot.found->order, nullptr);
  }
}

std::optional<ConnPlace> ConnMap::Insert(EpochParticipant& self, const ConnKey& key, const ConnPlace& place) {
  TUNNEL_CHECK(self.OnlineIn(domain_));
  const uint64_t order = OrderOf(key);
  Link& start = Start(self, order);
  Node* node = nullptr;
  for (;;) {
    Spot spot = Seek(self, start, order, &key);
    if (spot.found != nullptr) {
      if (node != nullptr) pool_.PutBack(self, *node);
      return spot.found->place;
    }
    if (node == nullptr) {
      node = &pool_.Take(self);
      node->order = order;
      node->key = key;
      node->place = place;
    }
    node->next.store(spot.next & ~kUnlinked, std::memory_order_relaxed);
    // Takes effect here. Two that insert the same key have the same spot, so one of them fails and looks again.
    if (spot.before->next.compare_exchange_strong(spot.next, Address(*node) | (spot.next & kUnlinked),
                                                  std::memory_order_release, std::memory_order_relaxed)) {
      CountInsert(self);
      return std::nullopt;
    }
  }
}

std::optional<ConnPlace> ConnMap::Find(EpochParticipant& self, const ConnKey& key) {
  TUNNEL_CHECK(self.OnlineIn(domain_));
  const uint64_t order = OrderOf(key);
  uintptr_t next = Start(self, order).next.load(std::memory_order_acquire);
  // Removed entries are walked over: they still lead on, to all that was there when this walk began.
  while (const Link* at = Target(next)) {
    next = at->next.load(std::memory_order_acquire);
    if (at->order < order) continue;
    if (at->order > order) break;
    const auto& node = static_cast<const Node&>(*at);
    // Takes effect where `next` was read. An entry that was replaced leads to what replaced it.
    if (node.key == key && (next & kRemoved) == 0) return node.place;
  }
  return std::nullopt;
}

ConnChange ConnMap::Update(EpochParticipant& self, const ConnKey& key, const ConnPlace& place) {
  TUNNEL_CHECK(self.OnlineIn(domain_));
  const uint64_t order = OrderOf(key);
  Link& start = Start(self, order);
  Node* node = nullptr;
  for (;;) {
    Spot spot = Seek(self, start, order, &key);
    if (spot.found == nullptr || spot.found->place.generation >= place.generation) {
      if (node != nullptr) pool_.PutBack(self, *node);
      return spot.found == nullptr ? ConnChange::kAbsent : ConnChange::kStale;
    }
    if (node == nullptr) {
      node = &pool_.Take(self);
      node->order = order;
      node->key = key;
      node->place = place;
    }
    node->next.store(spot.found_next, std::memory_order_relaxed);
    // Takes effect here: with one store the old entry is removed and leads to the new one.
    uintptr_t expected = spot.found_next;
    if (spot.found->next.compare_exchange_strong(expected, Address(*node) | kRemoved, std::memory_order_release,
                                                 std::memory_order_relaxed)) {
      Unlink(self, start, spot, Address(*node));
      return ConnChange::kDone;
    }
  }
}

ConnChange ConnMap::Erase(EpochParticipant& self, const ConnKey& key, uint32_t generation) {
  TUNNEL_CHECK(self.OnlineIn(domain_));
  const uint64_t order = OrderOf(key);
  Link& start = Start(self, order);
  for (;;) {
    const Spot spot = Seek(self, start, order, &key);
    if (spot.found == nullptr) return ConnChange::kAbsent;
    if (spot.found->place.generation != generation) return ConnChange::kStale;
    // Takes effect here.
    uintptr_t expected = spot.found_next;
    if (spot.found->next.compare_exchange_strong(expected, spot.found_next | kRemoved, std::memory_order_release,
                                                 std::memory_order_relaxed)) {
      Unlink(self, start, spot, spot.found_next);
      CountErase(self);
      return ConnChange::kDone;
    }
  }
}

void ConnMap::CountInsert(EpochParticipant& self) {
  Count& count = counts_[self.index()];
  count.entries.store(count.entries.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  if (++count.inserts % kConnMapInsertsPerLook == 0 && ApproximateSize() * kConnMapRangesPerEntry > ranges()) Grow();
}

void ConnMap::CountErase(EpochParticipant& self) {
  Count& count = counts_[self.index()];
  count.entries.store(count.entries.load(std::memory_order_relaxed) - 1, std::memory_order_relaxed);
}

size_t ConnMap::ApproximateSize() const {
  int64_t entries = 0;
  for (unsigned i = 0; i < domain_.capacity(); ++i) entries += counts_[i].entries.load(std::memory_order_relaxed);
  // One core's erasing may be seen before another's inserting.
  return static_cast<size_t>(std::max<int64_t>(entries, 0));
}

// Whoever comes first doubles the number of ranges; the others find it done.
void ConnMap::Grow() {
  unsigned level = level_.load(std::memory_order_acquire);
  if (level == kConnMapMaxLevel) return;
  // Acquires, to publish with level_ also what another thread has put there.
  if (segments_[level + 1].load(std::memory_order_acquire) == nullptr) {
    const size_t bytes = sizeof(Link) << level;
    auto* segment = static_cast<Link*>(MapPages(bytes));
    if (segment == nullptr) return;  // everything still works, in longer ranges
    Link* none = nullptr;
    if (!segments_[level + 1].compare_exchange_strong(none, segment, std::memory_order_release,
                                                      std::memory_order_acquire)) {
      UnmapPages(segment, bytes);
    }
  }
  (void)level_.compare_exchange_strong(level, level + 1, std::memory_order_acq_rel, std::memory_order_relaxed);
}

ConnMap::Cursor ConnMap::Scan(EpochParticipant& self, Cursor cursor, size_t limit,
                              absl::FunctionRef<void(const ConnKey&, const ConnPlace&)> visit) {
  TUNNEL_CHECK(self.OnlineIn(domain_));
  if (cursor == kScanEnd) return kScanEnd;
  uintptr_t next = Start(self, cursor).next.load(std::memory_order_acquire);
  size_t visited = 0;
  uint64_t last = 0;
  while (const Link* at = Target(next)) {
    next = at->next.load(std::memory_order_acquire);
    if (at->order < cursor || at->order % 2 == 0 || (next & kRemoved) != 0) continue;
    // All of one order belong to one piece.
    if (visited >= limit && at->order != last) return at->order;
    const auto& node = static_cast<const Node&>(*at);
    visit(node.key, node.place);
    ++visited;
    last = at->order;
  }
  return kScanEnd;
}

size_t ConnMap::memory_bytes() const { return ranges() * sizeof(Link) + pool_.memory_bytes(); }

void ConnMap::Validate() const {
  size_t entries = 0;
  size_t beginnings = 0;
  const Link* before = nullptr;
  for (const Link* at = &Beginning(0, 0); at != nullptr;) {
    TUNNEL_CHECK(before == nullptr || before->order < at->order || (before->order == at->order && at->order % 2 == 1));
    ++(at->order % 2 == 1 ? entries : beginnings);
    const uintptr_t next = at->next.load(std::memory_order_acquire);
    TUNNEL_CHECK((next & (kRemoved | kUnlinked)) == 0);
    TUNNEL_CHECK(((next & kEnd) != 0) == (Target(next) == nullptr));
    before = at;
    at = Target(next);
  }
  TUNNEL_CHECK(entries == ApproximateSize());
  const unsigned level = level_.load(std::memory_order_acquire);
  for (uint64_t range = 0; range < ranges(); ++range) {
    if (Beginning(level, range).next.load(std::memory_order_acquire) != 0) --beginnings;
  }
  TUNNEL_CHECK(beginnings == 0);
}

}  // namespace tunnel::core
