#include "core/epoch.h"

#include <array>
#include <deque>
#include <set>
#include <thread>
#include <vector>

#include "core/epoch_pool.h"
#include "reactor_fixture.h"

namespace tunnel::core {
namespace {

// Tries often enough for anything that may expire to have done so.
bool ExpiresNow(EpochDomain& domain, uint64_t stamp) {
  for (int i = 0; i < 5; ++i) domain.TryAdvance();
  return domain.Expired(stamp);
}

TEST(EpochTest, NothingExpiresBeforeTheEpochHasAdvancedTwice) {
  EpochDomain domain(1);
  const uint64_t stamp = domain.Stamp();
  EXPECT_FALSE(domain.Expired(stamp));
  domain.TryAdvance();
  EXPECT_FALSE(domain.Expired(stamp));
  domain.TryAdvance();
  EXPECT_TRUE(domain.Expired(stamp));
  EXPECT_FALSE(domain.Expired(domain.Stamp()));
}

TEST(EpochTest, AParticipantThatIsOnlineHoldsUpWhatItMayStillSee) {
  EpochDomain domain(2);
  EpochParticipant reader(domain);
  reader.Quiesce();
  const uint64_t stamp = domain.Stamp();
  EXPECT_FALSE(ExpiresNow(domain, stamp));
  // It had announced the epoch of the stamp; having announced the next one, it cannot see what was stamped.
  reader.Quiesce();
  EXPECT_TRUE(ExpiresNow(domain, stamp));
}

TEST(EpochTest, AnAnnouncementHoldsUpOnlyWhatComesAfterIt) {
  EpochDomain domain(2);
  EpochParticipant reader(domain);
  for (int i = 0; i < 10; ++i) {
    const uint64_t stamp = domain.Stamp();
    for (int announcement = 0; announcement < 2; ++announcement) {
      reader.Quiesce();
      domain.TryAdvance();
    }
    EXPECT_TRUE(domain.Expired(stamp));
    EXPECT_FALSE(ExpiresNow(domain, domain.Stamp()));
  }
}

TEST(EpochTest, WhoeverIsOfflineHoldsNothingUp) {
  EpochDomain domain(2);
  EpochParticipant sleeper(domain);
  EXPECT_FALSE(sleeper.OnlineIn(domain));
  EXPECT_TRUE(ExpiresNow(domain, domain.Stamp()));
  sleeper.Quiesce();
  EXPECT_TRUE(sleeper.OnlineIn(domain));
  EpochDomain other(1);
  EXPECT_FALSE(sleeper.OnlineIn(other));
  const uint64_t stamp = domain.Stamp();
  EXPECT_FALSE(ExpiresNow(domain, stamp));
  sleeper.GoOffline();
  EXPECT_FALSE(sleeper.OnlineIn(domain));
  EXPECT_TRUE(ExpiresNow(domain, stamp));
}

TEST(EpochTest, ThoseWhoLeaveMakeRoom) {
  EpochDomain domain(2);
  for (int i = 0; i < 10; ++i) {
    EpochParticipant one(domain);
    EpochParticipant other(domain);
    EXPECT_NE(one.index(), other.index());
    EXPECT_LT(std::max(one.index(), other.index()), domain.capacity());
    one.Quiesce();
    other.Quiesce();
  }
  EXPECT_TRUE(ExpiresNow(domain, domain.Stamp())) << "nobody is left";
}

TEST(EpochDeathTest, MoreThanTheCapacityIsOurBug) {
  EpochDomain domain(1);
  const EpochParticipant only(domain);
  EXPECT_DEATH(EpochParticipant another(domain), "kSlotLeft");
}

// --- the pool ---

struct TestNode {
  uint64_t value = 0;
};
using TestPool = EpochPool<TestNode>;
constexpr size_t kSlabNodes = TestPool::kSlabBytes / sizeof(TestNode);

TEST(EpochPoolTest, NoNodeIsHandedOutTwice) {
  EpochDomain domain(1);
  TestPool pool(domain);
  EpochParticipant self(domain);
  self.Quiesce();
  std::set<TestNode*> out;
  for (size_t i = 0; i < 3 * kSlabNodes; ++i) {
    TestNode& node = pool.Take(self);
    EXPECT_TRUE(out.insert(&node).second);
    if (i % 7 == 0) {
      pool.PutBack(self, node);
      out.erase(&node);
    }
  }
}

TEST(EpochPoolTest, RetiredNodesComeBackOnlyWhenNobodyCanSeeThem) {
  EpochDomain domain(2);
  TestPool pool(domain);
  EpochParticipant self(domain);
  EpochParticipant reader(domain);
  self.Quiesce();
  reader.Quiesce();
  std::set<TestNode*> retired;
  std::vector<TestNode*> live;
  for (size_t i = 0; i < 10 * TestPool::kNodesPerBag; ++i) live.push_back(&pool.Take(self));
  for (TestNode* node : live) {
    retired.insert(node);
    pool.Retire(self, *node);
  }
  // The reader has not announced anything since.
  for (size_t i = 0; i < 5 * kSlabNodes; ++i) {
    self.Quiesce();
    EXPECT_FALSE(retired.contains(&pool.Take(self)));
  }
  const size_t bytes = pool.memory_bytes();
  for (int i = 0; i < 3; ++i) {
    reader.Quiesce();
    self.Quiesce();
    domain.TryAdvance();
  }
  size_t again = 0;
  for (size_t i = 0; i < 10 * TestPool::kNodesPerBag; ++i) again += retired.contains(&pool.Take(self)) ? 1 : 0;
  EXPECT_EQ(again, retired.size());
  EXPECT_EQ(pool.memory_bytes(), bytes);
}

TEST(EpochPoolTest, ChurnNeedsNoMoreMemory) {
  EpochDomain domain(2);
  TestPool pool(domain);
  EpochParticipant one(domain);
  EpochParticipant other(domain);
  // Taken here and retired there, as of a stream that moved.
  std::deque<TestNode*> live;
  size_t bytes_early = 0;
  for (size_t i = 0; i < 200'000; ++i) {
    one.Quiesce();
    other.Quiesce();
    live.push_back(&pool.Take(one));
    if (live.size() > 100) {
      pool.Retire(other, *live.front());
      live.pop_front();
    }
    if (i == 20'000) bytes_early = pool.memory_bytes();
  }
  EXPECT_EQ(pool.memory_bytes(), bytes_early);
  EXPECT_LE(pool.memory_bytes(), 2 * TestPool::kSlabBytes);
}

TEST(EpochPoolTest, WhatAParticipantHadPassesToTheNextOfItsSlot) {
  EpochDomain domain(1);
  TestPool pool(domain);
  for (int i = 0; i < 100; ++i) {
    std::thread([&] {
      EpochParticipant self(domain);
      self.Quiesce();
      for (int j = 0; j < 100; ++j) {
        TestNode& node = pool.Take(self);
        node.value += 1;
        pool.Retire(self, node);
      }
    }).join();
  }
  EXPECT_EQ(pool.memory_bytes(), TestPool::kSlabBytes);
}

// Readers look at whatever is published last; what they see must not be used for anything else meanwhile.
TEST(EpochPoolTest, ReadersNeverSeeANodeUsedAgain) {
  constexpr int kThreads = 3;
  constexpr int kRounds = 20'000;
  EpochDomain domain(kThreads);
  TestPool pool(domain);
  std::array<std::atomic<TestNode*>, 4> published{};
  std::atomic<bool> sound{true};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      EpochParticipant self(domain);
      uint64_t random = static_cast<uint64_t>(t) + 1;
      for (int i = 0; i < kRounds; ++i) {
        if (i % 16 == 0) {
          self.Quiesce();
          if (i % 1024 == 0) self.GoOffline(), std::this_thread::yield(), self.Quiesce();
        }
        random = random * 6364136223846793005U + 1442695040888963407U;
        std::atomic<TestNode*>& place = published[random >> 62];
        if ((random >> 61 & 1) == 0) {
          TestNode& node = pool.Take(self);
          node.value = random | 1;
          TestNode* old = place.exchange(&node, std::memory_order_acq_rel);
          if (old != nullptr) pool.Retire(self, *old);
        } else if (const TestNode* node = place.load(std::memory_order_acquire)) {
          const uint64_t first = node->value;
          for (int k = 0; k < 8; ++k) {
            // The compiler may not take one look for all.
            std::atomic_signal_fence(std::memory_order_seq_cst);
            if (node->value != first || first == 0) sound.store(false);
          }
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_TRUE(sound.load());
}

// --- the reactor's announcements ---

class ReactorEpochTest : public testing::ReactorTest {
 protected:
  void SetUp() override {
    testing::BackendCase backend = GetParam();
    backend.options.epochs = &domain_;
    reactor_ = testing::MakeReactor(backend);
    if (reactor_ == nullptr) GTEST_SKIP() << "this kernel has no such backend";
  }
  void TearDown() override {
    if (reactor_ == nullptr) return;
    ReactorTest::TearDown();
    reactor_.reset();  // before what it takes part in
  }
  EpochDomain domain_{2};
};
TUNNEL_FOR_EVERY_BACKEND(ReactorEpochTest);

TEST_P(ReactorEpochTest, EveryTurnIsAnAnnouncement) {
  EXPECT_TRUE(reactor().epoch().OnlineIn(domain_));
  const uint64_t stamp = domain_.Stamp();
  EXPECT_FALSE(ExpiresNow(domain_, stamp));
  reactor().Turn(reactor().backend().Now());
  EXPECT_TRUE(ExpiresNow(domain_, stamp));
  EXPECT_TRUE(reactor().epoch().OnlineIn(domain_)) << "between turns its owner may use what is shared";
}

TEST_P(ReactorEpochTest, WhatRunsOnItIsOnline) {
  bool deferred = false;
  bool timed = false;
  bool woken = false;
  reactor().SetMailboxDrain([&] {
    woken = reactor().epoch().OnlineIn(domain_);
    return false;
  });
  reactor().Defer([&] { deferred = reactor().epoch().OnlineIn(domain_); });
  Timer timer(reactor().timers(), [&] { timed = reactor().epoch().OnlineIn(domain_); });
  timer.SetAfter(std::chrono::milliseconds(1));
  EXPECT_TRUE(RunUntil([&] { return timed; }));
  EXPECT_TRUE(deferred);
  EXPECT_TRUE(woken);
}

TEST_P(ReactorEpochTest, CompletionsAreDeliveredOnline) {
  auto [near, far] = testing::TcpPair();
  const testing::RawPeer peer(near);
  StreamSocket socket(reactor(), far);
  testing::Recorder recorder;
  bool online = false;
  recorder.on_receive = [&](Slice&) { online = reactor().epoch().OnlineIn(domain_); };
  socket.SetHandler(&recorder);
  peer.Send("hello");
  EXPECT_TRUE(RunUntil([&] { return !recorder.received.empty(); }));
  EXPECT_TRUE(online);
}

TEST_P(ReactorEpochTest, AReactorThatSleepsHoldsNothingUp) {
  std::atomic<bool> expired{false};
  std::thread other([&] {
    const uint64_t stamp = domain_.Stamp();
    // Ends only because the reactor, which turns once and wakes for nothing else, counts as offline meanwhile.
    while (!ExpiresNow(domain_, stamp)) std::this_thread::yield();
    expired.store(true);
    reactor().Wake();
  });
  while (!expired.load()) reactor().Turn(kNever);
  other.join();
}

}  // namespace
}  // namespace tunnel::core
