#include "core/conn_map.h"

#include <gtest/gtest.h>

#include <map>
#include <set>
#include <string_view>
#include <vector>

#include "core/pages.h"

namespace tunnel::core {
namespace {

constexpr ConnMap::Keys kTestKeys{.placing = {1, 2}, .naming = {3, 4}};

ConnKey StreamKeyOf(uint64_t number) {
  std::array<uint8_t, 16> session{};
  for (size_t i = 0; i < 8; ++i) session[i] = static_cast<uint8_t>(number / 16 >> (8 * i));
  return ConnMap::StreamKey(session, static_cast<uint32_t>(number % 16));
}

ConnPlace PlaceOf(uint64_t number, uint32_t generation = 0) {
  return {.handle = number * 3 + 1, .core = static_cast<uint32_t>(number % 5), .generation = generation};
}

std::span<const uint8_t> IdBytes(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

// With all bits of the hash, and with so few that keys share places and orders.
class ConnMapTest : public ::testing::TestWithParam<uint64_t> {
 protected:
  void SetUp() override { self_.Quiesce(); }
  void TearDown() override { map_.Validate(); }

  static ConnMap::Keys MaskedKeys() {
    ConnMap::Keys keys = kTestKeys;
    keys.placing_mask = GetParam();
    return keys;
  }
  std::map<uint64_t, int> Visited(size_t piece) {
    std::map<uint64_t, int> times;
    ConnMap::Cursor cursor = ConnMap::kScanBegin;
    do {
      cursor = map_.Scan(self_, cursor, piece, [&](const ConnKey&, const ConnPlace& place) { ++times[place.handle]; });
      self_.Quiesce();
    } while (cursor != ConnMap::kScanEnd);
    return times;
  }

  EpochDomain domain_{2};
  ConnMap map_{domain_, MaskedKeys()};
  EpochParticipant self_{domain_};
};

std::string PlacesName(const ::testing::TestParamInfo<uint64_t>& info) {
  constexpr std::array kNames{"All", "High", "Middle", "None"};
  return kNames.at(info.index);
}
INSTANTIATE_TEST_SUITE_P(Places, ConnMapTest,
                         ::testing::Values(~uint64_t{0}, uint64_t{0x3f} << 58, uint64_t{0x3f} << 48, uint64_t{0}),
                         PlacesName);

TEST_P(ConnMapTest, FindsWhatWasInserted) {
  EXPECT_EQ(map_.Find(self_, StreamKeyOf(1)), std::nullopt);
  EXPECT_EQ(map_.Insert(self_, StreamKeyOf(1), PlaceOf(1)), std::nullopt);
  EXPECT_EQ(map_.Find(self_, StreamKeyOf(1)), PlaceOf(1));
  EXPECT_EQ(map_.Find(self_, StreamKeyOf(2)), std::nullopt);
  EXPECT_EQ(map_.ApproximateSize(), 1U);
}

TEST_P(ConnMapTest, InsertReturnsWhatIsThere) {
  EXPECT_EQ(map_.Insert(self_, StreamKeyOf(1), PlaceOf(1)), std::nullopt);
  EXPECT_EQ(map_.Insert(self_, StreamKeyOf(1), PlaceOf(2, 9)), PlaceOf(1));
  EXPECT_EQ(map_.Find(self_, StreamKeyOf(1)), PlaceOf(1));
  EXPECT_EQ(map_.ApproximateSize(), 1U);
}

TEST_P(ConnMapTest, UpdateOnlyRaisesTheGeneration) {
  EXPECT_EQ(map_.Update(self_, StreamKeyOf(1), PlaceOf(1, 1)), ConnChange::kAbsent);
  EXPECT_EQ(map_.Find(self_, StreamKeyOf(1)), std::nullopt);
  ASSERT_EQ(map_.Insert(self_, StreamKeyOf(1), PlaceOf(1, 5)), std::nullopt);
  EXPECT_EQ(map_.Update(self_, StreamKeyOf(1), PlaceOf(2, 4)), ConnChange::kStale);
  EXPECT_EQ(map_.Update(self_, StreamKeyOf(1), PlaceOf(2, 5)), ConnChange::kStale);
  EXPECT_EQ(map_.Find(self_, StreamKeyOf(1)), PlaceOf(1, 5));
  EXPECT_EQ(map_.Update(self_, StreamKeyOf(1), PlaceOf(2, 6)), ConnChange::kDone);
  EXPECT_EQ(map_.Find(self_, StreamKeyOf(1)), PlaceOf(2, 6));
  EXPECT_EQ(map_.Update(self_, StreamKeyOf(1), PlaceOf(3, ~uint32_t{0})), ConnChange::kDone);
  EXPECT_EQ(map_.Find(self_, StreamKeyOf(1)), PlaceOf(3, ~uint32_t{0}));
  EXPECT_EQ(map_.ApproximateSize(), 1U);
}

TEST_P(ConnMapTest, EraseTakesOnlyTheGenerationItMeans) {
  EXPECT_EQ(map_.Erase(self_, StreamKeyOf(1), 0), ConnChange::kAbsent);
  ASSERT_EQ(map_.Insert(self_, StreamKeyOf(1), PlaceOf(1, 5)), std::nullopt);
  EXPECT_EQ(map_.Erase(self_, StreamKeyOf(1), 4), ConnChange::kStale);
  EXPECT_EQ(map_.Erase(self_, StreamKeyOf(1), 6), ConnChange::kStale);
  EXPECT_EQ(map_.Find(self_, StreamKeyOf(1)), PlaceOf(1, 5));
  EXPECT_EQ(map_.Erase(self_, StreamKeyOf(1), 5), ConnChange::kDone);
  EXPECT_EQ(map_.Find(self_, StreamKeyOf(1)), std::nullopt);
  EXPECT_EQ(map_.Erase(self_, StreamKeyOf(1), 5), ConnChange::kAbsent);
  EXPECT_EQ(map_.ApproximateSize(), 0U);
  EXPECT_EQ(map_.Insert(self_, StreamKeyOf(1), PlaceOf(1, 0)), std::nullopt) << "its generations begin again";
}

// The same random calls on a std::map.
TEST_P(ConnMapTest, DoesAsAnOrdinaryMapDoes) {
  std::map<uint64_t, ConnPlace> model;
  uint64_t random = 7;
  // Where every key has the same place, every call walks over every entry.
  const uint64_t keys = GetParam() == 0 ? 100 : 3000;
  for (int i = 0; i < 60'000; ++i) {
    if (i % 32 == 0) self_.Quiesce();
    random = random * 6364136223846793005U + 1442695040888963407U;
    const uint64_t number = (random >> 40) % keys;
    const auto there = model.find(number);
    const std::optional<ConnPlace> before = there == model.end() ? std::nullopt : std::optional(there->second);
    const ConnKey key = StreamKeyOf(number);
    const auto generation = static_cast<uint32_t>(random >> 20 & 3);
    const ConnPlace place = PlaceOf(static_cast<uint64_t>(i), generation);
    switch (random >> 61) {
      case 0:
      case 1:
      case 2: {
        EXPECT_EQ(map_.Insert(self_, key, place), before);
        model.try_emplace(number, place);
        break;
      }
      case 3: {
        const bool good = before.has_value() && before->generation < generation;
        EXPECT_EQ(map_.Update(self_, key, place),
                  good ? ConnChange::kDone : (before.has_value() ? ConnChange::kStale : ConnChange::kAbsent));
        if (good) model[number] = place;
        break;
      }
      case 4:
      case 5: {
        const bool good = before.has_value() && before->generation == generation;
        EXPECT_EQ(map_.Erase(self_, key, generation),
                  good ? ConnChange::kDone : (before.has_value() ? ConnChange::kStale : ConnChange::kAbsent));
        if (good) model.erase(number);
        break;
      }
      default:
        EXPECT_EQ(map_.Find(self_, key), before);
    }
  }
  EXPECT_EQ(map_.ApproximateSize(), model.size());
  EXPECT_EQ(Visited(10).size(), model.size());
}

TEST_P(ConnMapTest, AScanVisitsEverythingOnce) {
  EXPECT_TRUE(Visited(1).empty());
  constexpr uint64_t kEntries = 1500;
  for (uint64_t i = 0; i < kEntries; ++i) ASSERT_EQ(map_.Insert(self_, StreamKeyOf(i), PlaceOf(i)), std::nullopt);
  for (const size_t piece : {size_t{1}, size_t{2}, size_t{7}, size_t{1000}, size_t{kEntries}, size_t{1'000'000}}) {
    const std::map<uint64_t, int> times = Visited(piece);
    EXPECT_EQ(times.size(), kEntries);
    for (uint64_t i = 0; i < kEntries; ++i) {
      const auto found = times.find(PlaceOf(i).handle);
      ASSERT_TRUE(found != times.end() && found->second == 1) << i << " in pieces of " << piece;
    }
  }
  EXPECT_EQ(map_.Scan(self_, ConnMap::kScanEnd, 1, [](const ConnKey&, const ConnPlace&) { FAIL(); }),
            ConnMap::kScanEnd);
}

TEST_P(ConnMapTest, AScanKeepsItsPromiseWhileTheMapChanges) {
  const uint64_t entries = GetParam() == 0 ? 200 : 2000;
  // Even numbers stay; odd ones come and go between the pieces, and the map grows.
  for (uint64_t i = 0; i < entries; ++i) ASSERT_EQ(map_.Insert(self_, StreamKeyOf(i), PlaceOf(i)), std::nullopt);
  std::map<uint64_t, int> times;
  ConnMap::Cursor cursor = ConnMap::kScanBegin;
  uint64_t next = 0;
  do {
    cursor = map_.Scan(self_, cursor, 16, [&](const ConnKey&, const ConnPlace& place) { ++times[place.handle]; });
    for (int i = 0; i < 40; ++i, ++next) {
      const uint64_t odd = next % (entries / 2) * 2 + 1;
      (void)map_.Erase(self_, StreamKeyOf(odd), 0);
      (void)map_.Insert(self_, StreamKeyOf(entries + next), PlaceOf(entries + next));
    }
    self_.Quiesce();
  } while (cursor != ConnMap::kScanEnd && next < 100'000);
  EXPECT_EQ(cursor, ConnMap::kScanEnd);
  for (uint64_t i = 0; i < entries; i += 2) EXPECT_EQ(times[PlaceOf(i).handle], 1) << i;
  for (const auto& [handle, count] : times) EXPECT_LE(count, 1);
}

TEST(ConnMapKeyTest, EveryPartOfAKeyMatters) {
  EpochDomain domain(1);
  const ConnMap map(domain, kTestKeys);
  std::set<std::vector<uint64_t>> keys;
  const auto add = [&](const ConnKey& key) { return keys.insert({key.low, key.high, key.kind_and_stream}).second; };
  std::array<uint8_t, 16> session{};
  EXPECT_TRUE(add(ConnMap::StreamKey(session, 0)));
  EXPECT_FALSE(add(ConnMap::StreamKey(session, 0)));
  for (int bit = 0; bit < 32; ++bit) EXPECT_TRUE(add(ConnMap::StreamKey(session, uint32_t{1} << bit)));
  for (size_t i = 0; i < 128; ++i) {
    session[i / 8] ^= static_cast<uint8_t>(1U << (i % 8));
    EXPECT_TRUE(add(ConnMap::StreamKey(session, 0)));
    session[i / 8] ^= static_cast<uint8_t>(1U << (i % 8));
  }
  constexpr std::string_view kId = "123e4567-e89b-42d3-a456-426614174000";
  EXPECT_TRUE(add(map.LegacyKey(IdBytes(kId))));
  EXPECT_FALSE(add(map.LegacyKey(IdBytes(kId))));
  for (size_t i = 0; i < kId.size(); ++i) {
    std::string other(kId);
    other[i] = 'X';  // what is no UUID is an id too
    EXPECT_TRUE(add(map.LegacyKey(IdBytes(other))));
  }
  EXPECT_TRUE(add(map.LegacyKey(IdBytes("123E4567-e89b-42d3-a456-426614174000")))) << "ids are text: case matters";
  EXPECT_TRUE(add(map.LegacyKey(IdBytes(""))));
  EXPECT_TRUE(add(map.LegacyKey(IdBytes(std::string(1000, 'a')))));
}

TEST(ConnMapKeyTest, APeerCannotNameAStreamByALegacyId) {
  // Not even where the 128 bits are the same.
  EpochDomain domain(1);
  ConnMap map(domain, kTestKeys);
  EpochParticipant self(domain);
  self.Quiesce();
  const ConnKey legacy = map.LegacyKey(IdBytes("x"));
  std::array<uint8_t, 16> session{};
  for (size_t i = 0; i < 8; ++i) {
    session[i] = static_cast<uint8_t>(legacy.low >> (8 * i));
    session[8 + i] = static_cast<uint8_t>(legacy.high >> (8 * i));
  }
  const ConnKey stream = ConnMap::StreamKey(session, 0);
  EXPECT_EQ(stream.low, legacy.low);
  EXPECT_EQ(stream.high, legacy.high);
  EXPECT_EQ(map.Insert(self, stream, PlaceOf(1)), std::nullopt);
  EXPECT_EQ(map.Find(self, legacy), std::nullopt);
}

TEST(ConnMapKeyTest, KeysComeFromAllRandomBytes) {
  std::array<uint8_t, 32> bytes{};
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<uint8_t>(i);
  const ConnMap::Keys keys = ConnMap::KeysFrom(bytes);
  EXPECT_EQ(keys.placing.low, 0x0706050403020100U);
  EXPECT_EQ(keys.placing.high, 0x0f0e0d0c0b0a0908U);
  EXPECT_EQ(keys.naming.low, 0x1716151413121110U);
  EXPECT_EQ(keys.naming.high, 0x1f1e1d1c1b1a1918U);
}

TEST(ConnMapGrowthTest, MemoryIsWhatTheHeaderSays) {
  EpochDomain domain(2);
  ConnMap map(domain, kTestKeys);
  EpochParticipant self(domain);
  EXPECT_EQ(map.memory_bytes(), 16U * 1024);
  constexpr uint64_t kEntries = 200'000;
  const size_t slab = kHugePageBytes;
  for (uint64_t i = 0; i < kEntries; ++i) {
    if (i % 64 == 0) self.Quiesce();
    ASSERT_EQ(map.Insert(self, StreamKeyOf(i), PlaceOf(i)), std::nullopt);
    if (i >= 512) {
      ASSERT_LE(map.memory_bytes(), (i + 1) * 128 + slab);
    }
  }
  EXPECT_GE(map.ranges(), 2 * kEntries);
  map.Validate();
  // From here on the map has what it needs.
  const size_t most = map.memory_bytes() + slab;
  for (uint64_t i = 0; i < 2 * kEntries; ++i) {
    if (i % 64 == 0) self.Quiesce();
    ASSERT_EQ(map.Erase(self, StreamKeyOf(i), 0), ConnChange::kDone);
    ASSERT_EQ(map.Insert(self, StreamKeyOf(i + kEntries), PlaceOf(i + kEntries)), std::nullopt);
  }
  EXPECT_LE(map.memory_bytes(), most);
  for (uint64_t i = 2 * kEntries; i < 3 * kEntries; ++i) EXPECT_EQ(map.Find(self, StreamKeyOf(i)), PlaceOf(i));
  EXPECT_EQ(map.Find(self, StreamKeyOf(1)), std::nullopt);
  map.Validate();
}

TEST(ConnMapGrowthTest, WhatIsNeverLookedIntoIsFoundAfterManyDoublings) {
  EpochDomain domain(1);
  ConnMap map(domain, kTestKeys);
  EpochParticipant self(domain);
  self.Quiesce();
  ASSERT_EQ(map.Insert(self, StreamKeyOf(0), PlaceOf(0)), std::nullopt);
  const size_t before = map.ranges();
  for (uint64_t i = 1; i < 20'000; ++i) ASSERT_EQ(map.Insert(self, StreamKeyOf(i), PlaceOf(i)), std::nullopt);
  EXPECT_GE(map.ranges(), 16 * before);
  for (uint64_t i = 0; i < 20'000; ++i) ASSERT_EQ(map.Find(self, StreamKeyOf(i)), PlaceOf(i));
  for (uint64_t i = 20'000; i < 40'000; ++i) ASSERT_EQ(map.Find(self, StreamKeyOf(i)), std::nullopt);
  map.Validate();
}

TEST(ConnMapDeathTest, WhoIsOfflineMayNotUseIt) {
  EpochDomain domain(1);
  EpochDomain other(1);
  ConnMap map(domain, kTestKeys);
  EpochParticipant self(domain);
  EpochParticipant stranger(other);
  stranger.Quiesce();
  EXPECT_DEATH((void)map.Find(self, StreamKeyOf(1)), "OnlineIn");
  EXPECT_DEATH((void)map.Insert(stranger, StreamKeyOf(1), PlaceOf(1)), "OnlineIn");
}

}  // namespace
}  // namespace tunnel::core
