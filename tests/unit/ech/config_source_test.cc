#include "ech/config_source.h"

#include <gtest/gtest.h>

#include <vector>

#include "ech/key_store.h"

namespace tunnel::ech {
namespace {

using std::chrono::hours;
using std::chrono::seconds;

const TimePoint kStart = TimePoint(hours(1));

std::vector<uint8_t> MakeList() {
  auto key = GenerateKey("outer.example", 64, {}, {});
  EXPECT_TRUE(key.ok());
  return key->ConfigListBytes();
}

TEST(ConfigSourceTest, LivesByTheTtl) {
  ConfigSource source;
  EXPECT_FALSE(source.Current(kStart));
  EXPECT_TRUE(source.NeedsRefresh(kStart));
  const std::vector<uint8_t> list = MakeList();
  ASSERT_TRUE(source.StoreFromDns(list, seconds(300), kStart).ok());
  ASSERT_TRUE(source.Current(kStart));
  EXPECT_EQ(source.Current(kStart)->list, list);
  EXPECT_EQ(source.Current(kStart)->origin, ConfigOrigin::kDns);
  EXPECT_FALSE(source.NeedsRefresh(kStart + seconds(239)));
  EXPECT_TRUE(source.NeedsRefresh(kStart + seconds(240)));
  EXPECT_EQ(source.RefreshAt(), kStart + seconds(240));
  EXPECT_TRUE(source.Current(kStart + seconds(299)));
  EXPECT_FALSE(source.Current(kStart + seconds(300)));
}

TEST(ConfigSourceTest, TtlHasBounds) {
  ConfigSource source;
  ASSERT_TRUE(source.StoreFromDns(MakeList(), seconds(0), kStart).ok());
  EXPECT_TRUE(source.Current(kStart + kShortestTtl - seconds(1)));
  ASSERT_TRUE(source.StoreFromDns(MakeList(), seconds(0xffffffffLL), kStart).ok());
  EXPECT_FALSE(source.Current(kStart + kLongestTtl));
}

TEST(ConfigSourceTest, ABadAnswerKeepsTheOldList) {
  ConfigSource source;
  const std::vector<uint8_t> list = MakeList();
  ASSERT_TRUE(source.StoreFromDns(list, seconds(300), kStart).ok());
  EXPECT_FALSE(source.StoreFromDns(std::vector<uint8_t>{0, 1, 2}, seconds(300), kStart + seconds(250)).ok());
  EXPECT_EQ(source.Current(kStart + seconds(250))->list, list);
  EXPECT_TRUE(source.NeedsRefresh(kStart + seconds(250)));
}

TEST(ConfigSourceTest, RetryConfigsServeOneRetryAndAreNotKept) {
  ConfigSource source;
  const std::vector<uint8_t> list = MakeList();
  const std::vector<uint8_t> retry = MakeList();
  ASSERT_TRUE(source.StoreFromDns(list, seconds(300), kStart).ok());
  const Rejection first = source.OnRejected(*source.Current(kStart), retry);
  EXPECT_EQ(first.action, RejectionAction::kRetryOnceWithRetryConfigs);
  EXPECT_EQ(first.retry.list, retry);
  EXPECT_EQ(first.retry.origin, ConfigOrigin::kRetryConfigs);
  EXPECT_EQ(source.Current(kStart)->list, list);
  EXPECT_TRUE(source.NeedsRefresh(kStart));
  EXPECT_EQ(source.OnRejected(first.retry, MakeList()).action, RejectionAction::kRefreshFromDns);
  ASSERT_TRUE(source.StoreFromDns(retry, seconds(300), kStart).ok());
  EXPECT_FALSE(source.NeedsRefresh(kStart));
}

TEST(ConfigSourceTest, RejectionOfAReplacedListIsOldNews) {
  ConfigSource source;
  ASSERT_TRUE(source.StoreFromDns(MakeList(), seconds(300), kStart).ok());
  const auto used = source.Current(kStart);
  ASSERT_TRUE(source.StoreFromDns(MakeList(), seconds(300), kStart).ok());
  EXPECT_EQ(source.OnRejected(*used, MakeList()).action, RejectionAction::kRetryOnceWithRetryConfigs);
  EXPECT_FALSE(source.NeedsRefresh(kStart));
}

TEST(ConfigSourceTest, NoUsableRetryConfigMeansEchIsOff) {
  ConfigSource source;
  ASSERT_TRUE(source.StoreFromDns(MakeList(), seconds(300), kStart).ok());
  const auto used = *source.Current(kStart);
  EXPECT_EQ(source.OnRejected(used, {}).action, RejectionAction::kEchDisabledByServer);
  const std::vector<uint8_t> unknown_version = {0, 5, 0xfe, 0x0c, 0, 1, 0};
  EXPECT_EQ(source.OnRejected(used, unknown_version).action, RejectionAction::kEchDisabledByServer);
}

TEST(ConfigSourceTest, StaticListNeverExpires) {
  const std::vector<uint8_t> list = MakeList();
  auto source = ConfigSource::Static(list);
  ASSERT_TRUE(source.ok());
  EXPECT_EQ(source->Current(kStart + hours(100'000))->list, list);
  EXPECT_EQ(source->Current(kStart)->origin, ConfigOrigin::kStatic);
  EXPECT_FALSE(source->NeedsRefresh(kStart));
  EXPECT_FALSE(source->RefreshAt());
  ASSERT_TRUE(source->StoreFromDns(MakeList(), seconds(300), kStart).ok());
  EXPECT_EQ(source->Current(kStart)->list, list);
  const Rejection first = source->OnRejected(*source->Current(kStart), MakeList());
  EXPECT_EQ(first.action, RejectionAction::kRetryOnceWithRetryConfigs);
  EXPECT_EQ(source->OnRejected(first.retry, MakeList()).action, RejectionAction::kBackOff);
  EXPECT_FALSE(source->NeedsRefresh(kStart));
  EXPECT_FALSE(ConfigSource::Static({}).ok());
}

}  // namespace
}  // namespace tunnel::ech
