// The connection map under several threads: recorded histories against the checker, bookkeeping over long runs, and
// threads that are stopped anywhere.
#include <gtest/gtest.h>
#include <pthread.h>

#include <algorithm>
#include <barrier>
#include <csignal>
#include <thread>

#include "conn_map_model.h"
#include "core/conn_map.h"
#include "core/time.h"

namespace tunnel::core::testing {
namespace {

constexpr ConnMap::Keys kHistoryKeys{.placing = {5, 6}, .naming = {7, 8}};

class HistoryRandom {
 public:
  explicit HistoryRandom(uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15U + 1) {}
  uint64_t Below(uint64_t limit) {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    state_ ^= state_ << 17;
    return (state_ >> 16) % limit;
  }

 private:
  uint64_t state_;
};

ConnKey NumberedKey(uint64_t number) { return {.low = number, .high = number * 7, .kind_and_stream = 0}; }

int64_t Tick() { return std::chrono::steady_clock::now().time_since_epoch().count(); }

constexpr size_t kContested = 3;  // keys that all threads fight over
using KeyHistories = std::array<ThreadHistory<ConnMapCall>, kContested>;

ConnMapCall RandomCall(HistoryRandom& random, uint64_t handle) {
  ConnMapCall call;
  call.kind = static_cast<ConnMapCall::Kind>(random.Below(4));
  call.place = {.handle = handle, .core = 1, .generation = static_cast<uint32_t>(random.Below(4))};
  return call;
}

void Make(ConnMapCall& call, ConnMap& map, EpochParticipant& self, const ConnKey& key) {
  switch (call.kind) {
    case ConnMapCall::Kind::kInsert:
      call.found = map.Insert(self, key, call.place);
      break;
    case ConnMapCall::Kind::kFind:
      call.found = map.Find(self, key);
      break;
    case ConnMapCall::Kind::kUpdate:
      call.change = map.Update(self, key, call.place);
      break;
    case ConnMapCall::Kind::kErase:
      call.change = map.Erase(self, key, call.place.generation);
      break;
  }
}

class ConnMapHistoryTest : public ::testing::TestWithParam<uint64_t> {
 protected:
  static ConnMap::Keys MaskedKeys() {
    ConnMap::Keys keys = kHistoryKeys;
    keys.placing_mask = GetParam();
    return keys;
  }
};

// All bits of the hash; and four places for all, where every call meets the traces of the others.
INSTANTIATE_TEST_SUITE_P(Places, ConnMapHistoryTest, ::testing::Values(~uint64_t{0}, uint64_t{3} << 54),
                         [](const ::testing::TestParamInfo<uint64_t>& places) {
                           return std::string(places.index == 0 ? "All" : "Four");
                         });

TEST_P(ConnMapHistoryTest, RecordedHistoriesAreLinearizable) {
  constexpr unsigned kThreads = 3;
  constexpr uint64_t kRounds = 40;
  constexpr uint64_t kCalls = 1500;
  const bool spread = GetParam() == ~uint64_t{0};
  for (uint64_t round = 0; round < kRounds; ++round) {
    EpochDomain domain(kThreads);
    ConnMap map(domain, MaskedKeys());
    std::array<KeyHistories, kThreads> histories;
    std::barrier start(kThreads);
    std::vector<std::thread> threads;
    for (unsigned t = 0; t < kThreads; ++t) {
      threads.emplace_back([&, t] {
        EpochParticipant self(domain);
        HistoryRandom random(round * kThreads + t + 1);
        for (ThreadHistory<ConnMapCall>& history : histories[t]) history.reserve(kCalls);
        start.arrive_and_wait();
        for (uint64_t i = 0; i < kCalls; ++i) {
          if (i % 8 == 0) self.Quiesce();
          const uint64_t number = random.Below(kContested);
          HistoryEntry<ConnMapCall> entry{.call = RandomCall(random, i * kThreads + t)};
          entry.begin = Tick();
          Make(entry.call, map, self, NumberedKey(number));
          entry.end = Tick();
          histories[t][number].push_back(entry);
          // Others' entries come between, and make the map grow.
          if (spread) (void)map.Insert(self, NumberedKey(1000 + i * kThreads + t), {});
          if (random.Below(64) == 0) std::this_thread::yield();
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    map.Validate();
    if (spread) {
      EXPECT_GT(map.ranges(), size_t{1} << kConnMapMinLevel);
    }
    for (size_t key = 0; key < kContested; ++key) {
      std::vector<ThreadHistory<ConnMapCall>> of_key;
      for (unsigned t = 0; t < kThreads; ++t) of_key.push_back(histories[t][key]);
      ASSERT_TRUE(IsLinearizable(of_key, ConnMapModel{})) << "key " << key << " in round " << round;
    }
  }
}

// What the calls said they did adds up to what is there in the end.
TEST_P(ConnMapHistoryTest, TheBooksBalance) {
  constexpr unsigned kThreads = 4;
  constexpr uint64_t kCalls = 100'000;
  constexpr size_t kKeys = 40;
  EpochDomain domain(kThreads + 1);
  ConnMap map(domain, MaskedKeys());
  std::array<std::array<int64_t, kKeys>, kThreads> balance{};
  std::atomic<bool> sound{true};
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      EpochParticipant self(domain);
      HistoryRandom random(t + 1);
      // A key of its own, which no other thread's doings may touch.
      const ConnKey own = NumberedKey(1'000'000 + t);
      std::optional<ConnPlace> own_place;
      for (uint64_t i = 0; i < kCalls; ++i) {
        if (i % 32 == 0) self.Quiesce();
        if (i % 1024 == 0) {
          self.GoOffline();
          std::this_thread::yield();
          self.Quiesce();
        }
        const uint64_t number = random.Below(kKeys);
        ConnMapCall call = RandomCall(random, i);
        call.place.core = static_cast<uint32_t>(number);
        Make(call, map, self, NumberedKey(number));
        if (call.kind == ConnMapCall::Kind::kInsert && !call.found.has_value()) ++balance[t][number];
        if (call.kind == ConnMapCall::Kind::kErase && call.change == ConnChange::kDone) --balance[t][number];
        if (call.found.has_value() && call.found->core != number) sound.store(false);

        if (map.Find(self, own) != own_place) sound.store(false);
        switch (random.Below(3)) {
          case 0:
            if (map.Insert(self, own, {.handle = i}) != own_place) sound.store(false);
            if (!own_place.has_value()) own_place = ConnPlace{.handle = i};
            break;
          case 1:
            if (own_place.has_value()) {
              own_place = ConnPlace{.handle = i, .generation = own_place->generation + 1};
              if (map.Update(self, own, *own_place) != ConnChange::kDone) sound.store(false);
            }
            break;
          default:
            if (own_place.has_value()) {
              if (map.Erase(self, own, own_place->generation) != ConnChange::kDone) sound.store(false);
              own_place.reset();
            }
        }
      }
      if (own_place.has_value()) (void)map.Erase(self, own, own_place->generation);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_TRUE(sound.load());
  map.Validate();
  EpochParticipant self(domain);
  self.Quiesce();
  size_t present = 0;
  for (size_t key = 0; key < kKeys; ++key) {
    int64_t entries = 0;
    for (unsigned t = 0; t < kThreads; ++t) entries += balance[t][key];
    EXPECT_EQ(entries, map.Find(self, NumberedKey(key)).has_value() ? 1 : 0) << key;
    present += static_cast<size_t>(entries);
  }
  EXPECT_EQ(map.ApproximateSize(), present);
  // No more than the threads could hold back of one another.
  EXPECT_LE(map.memory_bytes(), 16U * 1024 + 64U * 1024 * 64);
}

// Scans beside threads that insert, update and erase: what stays is seen once.
TEST_P(ConnMapHistoryTest, ScansSeeWhatStays) {
  constexpr uint64_t kStaying = 300;
  EpochDomain domain(3);
  ConnMap map(domain, MaskedKeys());
  EpochParticipant self(domain);
  self.Quiesce();
  for (uint64_t i = 0; i < kStaying; ++i) ASSERT_EQ(map.Insert(self, NumberedKey(i), {.handle = i}), std::nullopt);
  constexpr uint64_t kChanges = 40'000;  // of each thread, at least
  std::atomic<bool> over{false};
  std::array<std::atomic<uint64_t>, 2> changes{};
  std::vector<std::thread> threads;
  for (uint64_t t = 0; t < 2; ++t) {
    threads.emplace_back([&, t] {
      EpochParticipant mine(domain);
      HistoryRandom random(t + 1);
      for (uint64_t i = 0; !over.load(std::memory_order_relaxed); ++i) {
        if (i % 16 == 0) mine.Quiesce();
        changes.at(t).store(i, std::memory_order_relaxed);
        if (i % 256 == 0) std::this_thread::yield();
        const ConnKey passing = NumberedKey(10'000 + random.Below(500));
        if (random.Below(2) == 0) {
          (void)map.Insert(mine, passing, {.handle = kStaying});
        } else {
          (void)map.Erase(mine, passing, 0);
        }
        const uint64_t staying = random.Below(kStaying);
        const std::optional<ConnPlace> place = map.Find(mine, NumberedKey(staying));
        if (place.has_value()) {
          (void)map.Update(mine, NumberedKey(staying), {.handle = staying, .generation = place->generation + 1});
        }
      }
    });
  }
  const auto enough = [&] {
    return std::ranges::all_of(changes, [](const std::atomic<uint64_t>& made) { return made.load() >= kChanges; });
  };
  for (int round = 0; !enough(); ++round) {
    std::array<int, kStaying + 1> times{};
    ConnMap::Cursor cursor = ConnMap::kScanBegin;
    do {
      cursor = map.Scan(self, cursor, 20, [&](const ConnKey&, const ConnPlace& place) { ++times.at(place.handle); });
      self.Quiesce();
    } while (cursor != ConnMap::kScanEnd);
    for (uint64_t i = 0; i < kStaying; ++i) EXPECT_EQ(times.at(i), 1) << i << " in round " << round;
  }
  over.store(true);
  for (std::thread& thread : threads) thread.join();
  map.Validate();
}

// --- a thread that is stopped, wherever it is, keeps nobody from anything ---

#if defined(__has_feature)
#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer)
#define TUNNEL_SIGNALS_ARE_LATE  // the sanitizers deliver them at moments of their own, and have locks
#endif
#endif

#ifndef TUNNEL_SIGNALS_ARE_LATE
std::atomic<bool> g_hold{false};
std::atomic<bool> g_held{false};

void HoldHere(int) {
  g_held.store(true);
  while (g_hold.load()) {
  }
  g_held.store(false);
}

TEST(ConnMapStopTest, NobodyWaitsForAStoppedThread) {
  struct sigaction action{};
  action.sa_handler = HoldHere;
  ASSERT_EQ(sigaction(SIGUSR1, &action, nullptr), 0);
  EpochDomain domain(2);
  ConnMap map(domain, kHistoryKeys);
  std::atomic<bool> over{false};
  std::thread stopped([&] {
    EpochParticipant self(domain);
    HistoryRandom random(1);
    for (uint64_t i = 0; !over.load(std::memory_order_relaxed); ++i) {
      if (i % 8 == 0) self.Quiesce();
      ConnMapCall call = RandomCall(random, i);
      Make(call, map, self, NumberedKey(random.Below(8)));
      // Ranges that nobody has looked into since the map grew.
      (void)map.Find(self, NumberedKey(random.Below(1'000'000)));
    }
  });
  EpochParticipant self(domain);
  HistoryRandom random(2);
  uint64_t filler = 1000;
  for (int round = 0; round < 60; ++round) {
    g_hold.store(true);
    ASSERT_EQ(pthread_kill(stopped.native_handle(), SIGUSR1), 0);
    while (!g_held.load()) std::this_thread::yield();
    // These come to their ends, or the test does not.
    for (uint64_t i = 0; i < 300; ++i) {
      self.Quiesce();
      ConnMapCall call = RandomCall(random, i);
      Make(call, map, self, NumberedKey(random.Below(8)));
      (void)map.Insert(self, NumberedKey(++filler), {});
    }
    g_hold.store(false);
    while (g_held.load()) std::this_thread::yield();
  }
  over.store(true);
  stopped.join();
  map.Validate();
  EXPECT_GE(map.ranges(), 8U << kConnMapMinLevel);
}
#endif

}  // namespace
}  // namespace tunnel::core::testing
