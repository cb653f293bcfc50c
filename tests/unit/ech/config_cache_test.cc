#include "ech/config_cache.h"

#include <gtest/gtest.h>

#include <vector>

#include "ech/key_store.h"

namespace tunnel::ech {
namespace {

using std::chrono::hours;
using std::chrono::seconds;

const TimePoint kStart = TimePoint(hours(10'000));
constexpr int64_t kWall = 1'800'000'000;

std::vector<uint8_t> MakeList() {
  auto key = GenerateKey("outer.example", 64, {}, {});
  EXPECT_TRUE(key.ok());
  return key->ConfigListBytes();
}

// What a channel does: judge, and tell the cache.
Rejection Reject(ConfigCache& cache, const ConfigToUse& used, std::span<const uint8_t> retry_configs,
                 TimePoint now = kStart) {
  const Rejection rejection = JudgeRejection(used, retry_configs);
  cache.OnRejected(used, rejection, now);
  return rejection;
}

TEST(ConfigCacheTest, LivesByTheTtlAndAWeekLonger) {
  ConfigCache cache;
  EXPECT_FALSE(cache.Current(kStart));
  EXPECT_LT(*cache.RefreshAt(), kStart);
  const std::vector<uint8_t> list = MakeList();
  ASSERT_TRUE(cache.StoreFromDns(list, seconds(300), kStart).ok());
  ASSERT_TRUE(cache.Current(kStart));
  EXPECT_EQ(cache.Current(kStart)->list, list);
  EXPECT_EQ(cache.Current(kStart)->origin, ConfigOrigin::kDns);
  EXPECT_EQ(cache.RefreshAt(), kStart + seconds(240));
  EXPECT_FALSE(cache.expired(kStart + seconds(299)));
  EXPECT_TRUE(cache.expired(kStart + seconds(300)));
  EXPECT_TRUE(cache.Current(kStart + seconds(300) + kStaleLimit - seconds(1)));
  EXPECT_FALSE(cache.Current(kStart + seconds(300) + kStaleLimit));
  EXPECT_EQ(cache.UsableUntil(), kStart + seconds(300) + kStaleLimit);
}

TEST(ConfigCacheTest, TtlHasBounds) {
  ConfigCache cache;
  ASSERT_TRUE(cache.StoreFromDns(MakeList(), seconds(0), kStart).ok());
  EXPECT_EQ(cache.RefreshAt(), kStart + kShortestTtl * 4 / 5);
  ASSERT_TRUE(cache.StoreFromDns(MakeList(), seconds(0xffffffffLL), kStart).ok());
  EXPECT_EQ(cache.RefreshAt(), kStart + kLongestTtl * 4 / 5);
  EXPECT_TRUE(cache.expired(kStart + kLongestTtl));
}

TEST(ConfigCacheTest, ABadAnswerKeepsTheOldList) {
  ConfigCache cache;
  const std::vector<uint8_t> list = MakeList();
  ASSERT_TRUE(cache.StoreFromDns(list, seconds(300), kStart).ok());
  for (const std::vector<uint8_t>& bad : {std::vector<uint8_t>{0, 1, 2}, {}, {0, 5, 0xfe, 0x0c, 0, 1, 0}}) {
    EXPECT_FALSE(cache.StoreFromDns(bad, seconds(300), kStart + seconds(250)).ok());
  }
  EXPECT_EQ(cache.Current(kStart + seconds(250))->list, list);
  EXPECT_EQ(cache.RefreshAt(), kStart + seconds(240));
}

TEST(ConfigCacheTest, RetryConfigsReplaceWhatWasRejected) {
  ConfigCache cache;
  const std::vector<uint8_t> list = MakeList();
  const std::vector<uint8_t> retry = MakeList();
  ASSERT_TRUE(cache.StoreFromDns(list, seconds(300), kStart).ok());
  const Rejection first = Reject(cache, *cache.Current(kStart), retry);
  EXPECT_EQ(first.action, RejectionAction::kRetryOnceWithRetryConfigs);
  EXPECT_EQ(first.retry, (ConfigToUse{retry, ConfigOrigin::kRetryConfigs, true}));
  EXPECT_EQ(*cache.Current(kStart), (ConfigToUse{retry, ConfigOrigin::kRetryConfigs, false}));
  EXPECT_EQ(cache.RefreshAt(), kStart + kRetryConfigsTtl * 4 / 5);
  EXPECT_FALSE(cache.rejected());
}

TEST(ConfigCacheTest, ADnsThatIsBehindDoesNotBringBackWhatWasRejected) {
  ConfigCache cache;
  const std::vector<uint8_t> list = MakeList();
  const std::vector<uint8_t> retry = MakeList();
  ASSERT_TRUE(cache.StoreFromDns(list, seconds(300), kStart).ok());
  Reject(cache, *cache.Current(kStart), retry);
  ASSERT_TRUE(cache.StoreFromDns(list, seconds(300), kStart + seconds(5)).ok());
  EXPECT_EQ(cache.Current(kStart)->list, retry);
  EXPECT_EQ(cache.RefreshAt(), kStart + seconds(5 + 240));
  // It catches up.
  ASSERT_TRUE(cache.StoreFromDns(retry, seconds(300), kStart + seconds(300)).ok());
  EXPECT_EQ(cache.Current(kStart)->origin, ConfigOrigin::kDns);
  // Another resolver, behind still.
  ASSERT_TRUE(cache.StoreFromDns(list, seconds(300), kStart + seconds(600)).ok());
  EXPECT_EQ(cache.Current(kStart)->list, retry);
  // Something new is taken, whatever was held.
  const std::vector<uint8_t> third = MakeList();
  ASSERT_TRUE(cache.StoreFromDns(third, seconds(300), kStart + seconds(900)).ok());
  EXPECT_EQ(cache.Current(kStart)->list, third);
}

TEST(ConfigCacheTest, AServerMayGoBackToAnOlderKey) {
  ConfigCache cache;
  const std::vector<uint8_t> list = MakeList();
  const std::vector<uint8_t> retry = MakeList();
  ASSERT_TRUE(cache.StoreFromDns(list, seconds(300), kStart).ok());
  Reject(cache, *cache.Current(kStart), retry);
  Reject(cache, *cache.Current(kStart), list);
  EXPECT_EQ(cache.Current(kStart)->list, list);
  EXPECT_FALSE(cache.rejected());
  ASSERT_TRUE(cache.StoreFromDns(retry, seconds(300), kStart).ok());
  EXPECT_EQ(cache.Current(kStart)->list, list);
}

TEST(ConfigCacheTest, ASecondRejectionInARowBacksOff) {
  ConfigCache cache;
  const std::vector<uint8_t> list = MakeList();
  ASSERT_TRUE(cache.StoreFromDns(list, seconds(300), kStart).ok());
  const Rejection first = Reject(cache, *cache.Current(kStart), MakeList());
  EXPECT_EQ(Reject(cache, first.retry, MakeList()).action, RejectionAction::kBackOff);
  EXPECT_TRUE(cache.rejected());
  EXPECT_EQ(cache.Current(kStart)->list, first.retry.list);
  // Nothing held is better than what the DNS says, rejected or not.
  ASSERT_TRUE(cache.StoreFromDns(list, seconds(300), kStart).ok());
  EXPECT_EQ(cache.Current(kStart)->list, list);
  // A later dial with what was a retry list has a rejection of its own to spend.
  const Rejection later = Reject(cache, *cache.Current(kStart), MakeList());
  EXPECT_EQ(later.action, RejectionAction::kRetryOnceWithRetryConfigs);
  EXPECT_EQ(Reject(cache, *cache.Current(kStart), MakeList()).action, RejectionAction::kRetryOnceWithRetryConfigs);
}

TEST(ConfigCacheTest, RejectionOfAReplacedListIsOldNews) {
  ConfigCache cache;
  ASSERT_TRUE(cache.StoreFromDns(MakeList(), seconds(300), kStart).ok());
  const auto used = cache.Current(kStart);
  const std::vector<uint8_t> next = MakeList();
  ASSERT_TRUE(cache.StoreFromDns(next, seconds(300), kStart).ok());
  const Rejection rejection = Reject(cache, *used, MakeList());
  EXPECT_EQ(rejection.action, RejectionAction::kRetryOnceWithRetryConfigs);
  EXPECT_EQ(cache.Current(kStart)->list, next);
  // The same from two dials with the same list: the first one's retry configs stay.
  const std::vector<uint8_t> first = MakeList();
  Reject(cache, {next, ConfigOrigin::kDns}, first);
  Reject(cache, {next, ConfigOrigin::kDns}, MakeList());
  EXPECT_EQ(cache.Current(kStart)->list, first);
}

TEST(ConfigCacheTest, RemembersTheLastRejectedListsOnly) {
  ConfigCache cache;
  std::vector<std::vector<uint8_t>> lists;
  for (size_t i = 0; i < kRejectedLists + 2; ++i) lists.push_back(MakeList());
  ASSERT_TRUE(cache.StoreFromDns(lists[0], seconds(300), kStart).ok());
  for (size_t i = 1; i < lists.size(); ++i) Reject(cache, *cache.Current(kStart), lists[i]);
  EXPECT_EQ(cache.Save(kWall, kStart)->rejected.size(), kRejectedLists);
  ASSERT_TRUE(cache.StoreFromDns(lists[1], seconds(300), kStart).ok());
  EXPECT_EQ(cache.Current(kStart)->list, lists.back());
  ASSERT_TRUE(cache.StoreFromDns(lists[0], seconds(300), kStart).ok());
  EXPECT_EQ(cache.Current(kStart)->list, lists[0]);
}

TEST(ConfigCacheTest, NoUsableRetryConfigMeansEchIsOff) {
  ConfigCache cache;
  const std::vector<uint8_t> list = MakeList();
  ASSERT_TRUE(cache.StoreFromDns(list, seconds(300), kStart).ok());
  const auto used = *cache.Current(kStart);
  EXPECT_EQ(Reject(cache, used, {}).action, RejectionAction::kEchDisabledByServer);
  const std::vector<uint8_t> unknown_version = {0, 5, 0xfe, 0x0c, 0, 1, 0};
  EXPECT_EQ(Reject(cache, used, unknown_version).action, RejectionAction::kEchDisabledByServer);
  EXPECT_EQ(Reject(cache, {list, ConfigOrigin::kRetryConfigs, true}, {}).action, RejectionAction::kEchDisabledByServer);
  EXPECT_EQ(cache.Current(kStart)->list, list);
}

TEST(ConfigCacheTest, AListGivenByHandNeverExpiresAndIsStoodInFor) {
  const std::vector<uint8_t> list = MakeList();
  auto cache = ConfigCache::Static(list);
  ASSERT_TRUE(cache.ok());
  EXPECT_EQ(cache->Current(kStart + hours(100'000))->list, list);
  EXPECT_EQ(cache->Current(kStart)->origin, ConfigOrigin::kStatic);
  EXPECT_FALSE(cache->RefreshAt());
  EXPECT_FALSE(cache->expired(kStart + hours(100'000)));
  ASSERT_TRUE(cache->StoreFromDns(MakeList(), seconds(300), kStart).ok());
  EXPECT_EQ(cache->Current(kStart)->list, list);
  EXPECT_FALSE(cache->Restore({.expires_seconds = kWall, .list = MakeList()}, kWall, kStart));

  const Rejection first = Reject(*cache, *cache->Current(kStart), MakeList());
  EXPECT_EQ(first.action, RejectionAction::kRetryOnceWithRetryConfigs);
  EXPECT_EQ(cache->Current(kStart + hours(100'000))->list, first.retry.list);
  EXPECT_FALSE(cache->RefreshAt());
  EXPECT_FALSE(cache->Save(kWall, kStart));
  EXPECT_EQ(Reject(*cache, first.retry, MakeList()).action, RejectionAction::kBackOff);
  EXPECT_EQ(cache->Current(kStart)->list, list);
  EXPECT_FALSE(ConfigCache::Static({}).ok());
}

TEST(ConfigCacheTest, GoesThroughTheDisk) {
  ConfigCache cache;
  EXPECT_FALSE(cache.Save(kWall, kStart));
  const std::vector<uint8_t> list = MakeList();
  const std::vector<uint8_t> retry = MakeList();
  ASSERT_TRUE(cache.StoreFromDns(list, seconds(300), kStart).ok());
  Reject(cache, *cache.Current(kStart), retry);
  const auto saved = cache.Save(kWall + 100, kStart + seconds(100));
  ASSERT_TRUE(saved);
  EXPECT_EQ(saved->stored_seconds, kWall);
  EXPECT_EQ(saved->expires_seconds, kWall + kRetryConfigsTtl.count());
  EXPECT_EQ(saved->origin, ConfigOrigin::kRetryConfigs);

  // Another process, another monotonic clock.
  const TimePoint later(seconds(5));
  ConfigCache restored;
  ASSERT_TRUE(restored.Restore(*saved, kWall + 600, later));
  EXPECT_EQ(restored.Current(later)->list, retry);
  EXPECT_EQ(restored.RefreshAt(), later - seconds(600) + kRetryConfigsTtl * 4 / 5);
  EXPECT_EQ(*restored.Save(kWall + 600, later), *saved);
  // What was rejected is so after the restart too.
  ASSERT_TRUE(restored.StoreFromDns(list, seconds(300), later).ok());
  EXPECT_EQ(restored.Current(later)->list, retry);
}

TEST(ConfigCacheTest, ClocksThatJump) {
  SavedConfig saved{.stored_seconds = kWall, .expires_seconds = kWall + 3600, .list = MakeList()};
  const struct {
    int64_t wall;
    bool usable;
    bool due;
  } kCases[] = {
      {kWall + 1, true, false},
      {kWall + 2879, true, false},
      {kWall + 2880, true, true},
      {kWall + 3600, true, true},
      {kWall + 3600 + kStaleLimit.count() - 1, true, true},
      {kWall + 3600 + kStaleLimit.count(), false, true},
      {kWall * 100, false, true},
      {INT64_MAX, false, true},
      {kWall, true, true},  // not after it was stored: nobody knows how old it is
      {kWall - 1, true, true},
      {0, true, true},  // a machine without a clock of its own
  };
  for (const auto& c : kCases) {
    ConfigCache cache;
    EXPECT_EQ(cache.Restore(saved, c.wall, kStart), c.usable) << c.wall;
    EXPECT_EQ(cache.Current(kStart).has_value(), c.usable) << c.wall;
    EXPECT_EQ(*cache.RefreshAt() <= kStart, c.due) << c.wall;
  }
  // A lifetime over the longest is cut, one that ends before it begins is none.
  ConfigCache cache;
  saved.expires_seconds = kWall + 1'000'000'000;
  ASSERT_TRUE(cache.Restore(saved, kWall + 1, kStart));
  EXPECT_EQ(cache.UsableUntil(), kStart - seconds(1) + kLongestTtl + kStaleLimit);
  saved.expires_seconds = kWall - 1;
  ASSERT_TRUE(cache.Restore(saved, kWall + 1, kStart));
  EXPECT_TRUE(cache.expired(kStart));
  saved.list = {0, 1, 2};
  EXPECT_FALSE(cache.Restore(saved, kWall + 1, kStart));
}

}  // namespace
}  // namespace tunnel::ech
