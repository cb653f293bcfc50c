// The connection map beside what one would otherwise use: 64 shards of absl::flat_hash_map under a mutex each (with
// abseil's hash, and with the map's keyed one), and liburcu's cds_lfht where it is installed (QSBR flavour, keyed
// hash).
//
//   NAME/ENTRIES/READS/process_time/threads:N
//
// READS of 100 calls look up one of ENTRIES that stay; the others insert a new key or erase the oldest of the thread's
// own, in turn.
// CPU is the time of all threads, those of liburcu's that reclaim and resize among them, for one call. A call in 64 is
// followed by what ends a turn: an announcement to whatever reclaims memory. The label says whether every look-up gave
// what had been put there.
#include <absl/container/flat_hash_map.h>
#include <absl/synchronization/mutex.h>
#include <benchmark/benchmark.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>

#include "core/conn_map.h"

#ifdef TUNNEL_HAVE_LIBURCU
#define _LGPL_SOURCE  // its small functions inline: as fast as it gets
#include <urcu/urcu-qsbr.h>
// after the flavour
#include <urcu/rculfhash.h>
#endif

namespace {

using namespace tunnel::core;

constexpr SipHashKey kBenchKey{.low = 0x123456789abcdef0, .high = 0x0fedcba987654321};

uint64_t Mix(uint64_t x) {
  x = (x ^ x >> 31) * 0x9e3779b97f4a7c15U;
  x = (x ^ x >> 29) * 0xbf58476d1ce4e5b9U;
  return x ^ x >> 32;
}
// Made when needed: a table of keys would miss the cache as often as the maps do.
ConnKey KeyOf(uint64_t number) {
  return {.low = Mix(number), .high = Mix(number + 0x1234567), .kind_and_stream = number & 0xffff};
}

class LockFree {
 public:
  class Thread {
   public:
    explicit Thread(LockFree& table) : map_(table.map_), self_(table.domain_) { self_.Quiesce(); }
    std::optional<uint64_t> Find(const ConnKey& key) {
      const std::optional<ConnPlace> place = map_.Find(self_, key);
      return place.has_value() ? std::optional(place->handle) : std::nullopt;
    }
    void Insert(const ConnKey& key, uint64_t handle) { (void)map_.Insert(self_, key, {.handle = handle}); }
    void Erase(const ConnKey& key) { (void)map_.Erase(self_, key, 0); }
    void EndTurn() { self_.Quiesce(); }

   private:
    ConnMap& map_;
    EpochParticipant self_;
  };

 private:
  EpochDomain domain_{8};
  ConnMap map_{domain_, {.placing = kBenchKey, .naming = {}}};
};

struct AbseilHash {
  size_t operator()(const ConnKey& key) const { return absl::HashOf(key.low, key.high, key.kind_and_stream); }
};
struct KeyedHash {
  size_t operator()(const ConnKey& key) const {
    return static_cast<size_t>(SipHash13(kBenchKey, {key.low, key.high, key.kind_and_stream}));
  }
};

template <typename Hash>
class Sharded {
 public:
  class Thread {
   public:
    explicit Thread(Sharded& table) : table_(table) {}
    std::optional<uint64_t> Find(const ConnKey& key) {
      Shard& shard = table_.ShardOf(key);
      const absl::MutexLock lock(&shard.mutex);
      const auto found = shard.map.find(key);
      return found == shard.map.end() ? std::nullopt : std::optional(found->second.handle);
    }
    void Insert(const ConnKey& key, uint64_t handle) {
      Shard& shard = table_.ShardOf(key);
      const absl::MutexLock lock(&shard.mutex);
      shard.map.try_emplace(key, ConnPlace{.handle = handle});
    }
    void Erase(const ConnKey& key) {
      Shard& shard = table_.ShardOf(key);
      const absl::MutexLock lock(&shard.mutex);
      shard.map.erase(key);
    }
    void EndTurn() {}

   private:
    Sharded& table_;
  };

 private:
  struct alignas(64) Shard {
    absl::Mutex mutex;
    absl::flat_hash_map<ConnKey, ConnPlace, Hash> map;
  };
  Shard& ShardOf(const ConnKey& key) { return shards_[key.low >> 58]; }
  std::array<Shard, 64> shards_;
};
using ShardedAbseil = Sharded<AbseilHash>;
using ShardedKeyed = Sharded<KeyedHash>;

#ifdef TUNNEL_HAVE_LIBURCU
class Liburcu {
 public:
  class Thread {
   public:
    explicit Thread(Liburcu& table) : table_(table.table_) { urcu_qsbr_register_thread(); }
    Thread(const Thread&) = delete;
    Thread& operator=(const Thread&) = delete;
    ~Thread() { urcu_qsbr_unregister_thread(); }
    std::optional<uint64_t> Find(const ConnKey& key) {
      cds_lfht_iter at;
      cds_lfht_lookup(table_, KeyedHash()(key), &Matches, &key, &at);
      cds_lfht_node* node = cds_lfht_iter_get_node(&at);
      return node == nullptr ? std::nullopt : std::optional(EntryOf(node).place.handle);
    }
    void Insert(const ConnKey& key, uint64_t handle) {
      auto* entry = new Entry{.place = {.handle = handle}, .key = key};
      cds_lfht_node_init(&entry->node);
      if (cds_lfht_add_unique(table_, KeyedHash()(key), &Matches, &key, &entry->node) != &entry->node) delete entry;
    }
    void Erase(const ConnKey& key) {
      cds_lfht_iter at;
      cds_lfht_lookup(table_, KeyedHash()(key), &Matches, &key, &at);
      cds_lfht_node* node = cds_lfht_iter_get_node(&at);
      if (node != nullptr && cds_lfht_del(table_, node) == 0) {
        urcu_qsbr_call_rcu(&EntryOf(node).reclaim, [](rcu_head* head) {
          delete reinterpret_cast<Entry*>(reinterpret_cast<char*>(head) - offsetof(Entry, reclaim));
        });
      }
    }
    void EndTurn() { urcu_qsbr_quiescent_state(); }

   private:
    cds_lfht* table_;
  };

  Liburcu() = default;
  Liburcu(const Liburcu&) = delete;
  Liburcu& operator=(const Liburcu&) = delete;
  ~Liburcu() {
    urcu_qsbr_register_thread();
    cds_lfht_iter at;
    for (cds_lfht_first(table_, &at); cds_lfht_iter_get_node(&at) != nullptr; cds_lfht_next(table_, &at)) {
      cds_lfht_node* node = cds_lfht_iter_get_node(&at);
      (void)cds_lfht_del(table_, node);
      urcu_qsbr_call_rcu(&EntryOf(node).reclaim, [](rcu_head* head) {
        delete reinterpret_cast<Entry*>(reinterpret_cast<char*>(head) - offsetof(Entry, reclaim));
      });
    }
    urcu_qsbr_unregister_thread();
    urcu_qsbr_barrier();
    (void)cds_lfht_destroy(table_, nullptr);
  }

 private:
  struct Entry {
    cds_lfht_node node;
    rcu_head reclaim;
    ConnPlace place;
    ConnKey key;
  };
  static Entry& EntryOf(cds_lfht_node* node) {
    return *reinterpret_cast<Entry*>(reinterpret_cast<std::byte*>(node) - offsetof(Entry, node));
  }
  static int Matches(cds_lfht_node* node, const void* key) {
    return EntryOf(node).key == *static_cast<const ConnKey*>(key) ? 1 : 0;
  }
  cds_lfht* table_ =
      cds_lfht_new_flavor(1024, 1024, 0, CDS_LFHT_AUTO_RESIZE | CDS_LFHT_ACCOUNTING, &urcu_qsbr_flavor, nullptr);
};
#endif

// Filled once and used by all the runs that follow with as many entries; there is one at a time.
template <typename Table>
struct Filled {
  std::unique_ptr<Table> table;
  int64_t entries = 0;
};
void (*g_drop)() = nullptr;
template <typename Table>
Filled<Table> g_filled;

template <typename Table>
Table& FilledTable(int64_t entries) {
  Filled<Table>& filled = g_filled<Table>;
  if (filled.entries != entries) {
    if (g_drop != nullptr) g_drop();
    g_drop = [] { g_filled<Table> = {}; };
    filled.entries = entries;
    filled.table = std::make_unique<Table>();
    typename Table::Thread thread(*filled.table);
    for (int64_t i = 0; i < entries; ++i) {
      thread.Insert(KeyOf(static_cast<uint64_t>(i)), static_cast<uint64_t>(i));
      if (i % 64 == 0) thread.EndTurn();
    }
    // What is put off until the first look is not what is measured.
    for (int64_t i = 0; i < entries; ++i) {
      benchmark::DoNotOptimize(thread.Find(KeyOf(static_cast<uint64_t>(i))));
      if (i % 64 == 0) thread.EndTurn();
    }
  }
  return *filled.table;
}

template <typename Table>
void FillTable(const benchmark::State& state) {
  (void)FilledTable<Table>(state.range(0));
}

std::atomic<uint64_t> g_own_keys{uint64_t{1} << 40};

template <typename Table>
void Mixed(benchmark::State& state) {
  typename Table::Thread thread(FilledTable<Table>(state.range(0)));
  const auto entries = static_cast<uint64_t>(state.range(0));
  const auto reads = static_cast<uint64_t>(state.range(1));
  // Keys of this thread's own, of which it always has a sixteenth of all entries in the table.
  uint64_t newest = g_own_keys.fetch_add(uint64_t{1} << 36);
  uint64_t oldest = newest;
  for (; newest - oldest < entries / 16; ++newest) {
    thread.Insert(KeyOf(newest), newest);
    if (newest % 64 == 0) thread.EndTurn();
  }
  uint64_t random = Mix(newest) | 1;
  uint64_t wrong = 0;
  uint64_t calls = 0;
  for (auto _ : state) {
    random ^= random << 13;
    random ^= random >> 7;
    random ^= random << 17;
    if ((random & 0xffff) * 100 >> 16 < reads) {
      const uint64_t number = (random >> 32) * entries >> 32;
      wrong += thread.Find(KeyOf(number)) == number ? 0 : 1;
    } else if (newest - oldest <= entries / 16) {
      thread.Insert(KeyOf(newest), newest);
      ++newest;
    } else {
      thread.Erase(KeyOf(oldest));
      ++oldest;
    }
    if (++calls % 64 == 0) thread.EndTurn();
  }
  for (; oldest != newest; ++oldest) {
    thread.Erase(KeyOf(oldest));
    if (oldest % 64 == 0) thread.EndTurn();
  }
  state.SetItemsProcessed(static_cast<int64_t>(calls));
  state.SetLabel(wrong == 0 ? "right" : "WRONG");
}

void EveryMix(benchmark::internal::Benchmark* bench) {
  for (const int64_t entries : {1'000, 10'000, 100'000, 1'000'000}) {
    for (const int64_t reads : {90, 50}) bench->Args({entries, reads});
  }
  bench->Threads(1)->Threads(2)->MeasureProcessCPUTime();
}

BENCHMARK_TEMPLATE(Mixed, LockFree)->Setup(FillTable<LockFree>)->Apply(EveryMix);
BENCHMARK_TEMPLATE(Mixed, ShardedAbseil)->Setup(FillTable<ShardedAbseil>)->Apply(EveryMix);
BENCHMARK_TEMPLATE(Mixed, ShardedKeyed)->Setup(FillTable<ShardedKeyed>)->Apply(EveryMix);
#ifdef TUNNEL_HAVE_LIBURCU
BENCHMARK_TEMPLATE(Mixed, Liburcu)->Setup(FillTable<Liburcu>)->Apply(EveryMix);
#endif

}  // namespace

BENCHMARK_MAIN();
