// The ids that a server has seen, against a set.
#include "net/mux_seen_ids.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>
#include <vector>

namespace tunnel::net {
namespace {

TEST(MuxSeenIds, IdsInOrderAreOneRange) {
  MuxSeenIds seen;
  for (uint32_t id = 1; id < 20'000; id += 2) {
    EXPECT_FALSE(seen.Contains(id));
    seen.Add(id);
  }
  EXPECT_EQ(seen.ranges(), 1U);
  EXPECT_TRUE(seen.Contains(1));
  EXPECT_TRUE(seen.Contains(19'999));
  EXPECT_FALSE(seen.Contains(20'001));
}

TEST(MuxSeenIds, AGapThatIsFilledJoinsTheRangesBesideIt) {
  MuxSeenIds seen;
  seen.Add(1);
  seen.Add(5);
  EXPECT_EQ(seen.ranges(), 2U);
  EXPECT_FALSE(seen.Contains(3));
  seen.Add(3);
  EXPECT_EQ(seen.ranges(), 1U);
}

TEST(MuxSeenIds, KnowsTheFirstAndTheLastIdThereIs) {
  MuxSeenIds seen;
  seen.Add(UINT32_MAX);
  EXPECT_FALSE(seen.Contains(UINT32_MAX - 2));
  EXPECT_FALSE(seen.Contains(1));
  seen.Add(1);
  EXPECT_EQ(seen.ranges(), 2U);
  seen.Add(UINT32_MAX - 2);
  EXPECT_EQ(seen.ranges(), 2U);
  EXPECT_TRUE(seen.Contains(UINT32_MAX));
}

class MuxSeenIdsModel : public testing::TestWithParam<uint64_t> {};

// Nearly in order, as from several channels, and at last all of them.
TEST_P(MuxSeenIdsModel, IsASet) {
  std::mt19937_64 random(GetParam());
  constexpr uint32_t kIds = 600;
  std::vector<uint32_t> ids(kIds);
  for (uint32_t i = 0; i < kIds; ++i) ids[i] = 2 * i + 1;
  const size_t stretch = GetParam() % 3 == 0 ? kIds : 2 + random() % 20;
  for (size_t i = 0; i < kIds; i += stretch) {
    std::shuffle(ids.begin() + static_cast<std::ptrdiff_t>(i),
                 ids.begin() + static_cast<std::ptrdiff_t>(std::min<size_t>(i + stretch, kIds)), random);
  }
  MuxSeenIds seen;
  std::set<uint32_t> model;
  for (const uint32_t id : ids) {
    ASSERT_FALSE(seen.Contains(id));
    seen.Add(id);
    model.insert(id);
    size_t ranges = 0;
    for (uint32_t other = 1; other < 2 * kIds; other += 2) {
      ASSERT_EQ(seen.Contains(other), model.contains(other)) << other;
      if (model.contains(other) && (other == 1 || !model.contains(other - 2))) ++ranges;
    }
    ASSERT_EQ(seen.ranges(), ranges);
  }
  EXPECT_EQ(seen.ranges(), 1U);
}

INSTANTIATE_TEST_SUITE_P(Seeds, MuxSeenIdsModel, testing::Range<uint64_t>(1, 13));

}  // namespace
}  // namespace tunnel::net
