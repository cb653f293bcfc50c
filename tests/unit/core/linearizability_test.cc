// The checker itself: it must accept what can be put in order and, above all, reject what cannot.
#include "linearizability.h"

#include <gtest/gtest.h>

#include "conn_map_model.h"

namespace tunnel::core::testing {
namespace {

using History = ThreadHistory<ConnMapCall>;
using Entry = HistoryEntry<ConnMapCall>;

ConnPlace Place(uint32_t generation) { return {.handle = 100 + generation, .core = 1, .generation = generation}; }

Entry Insert(int64_t begin, int64_t end, uint32_t generation, std::optional<uint32_t> found) {
  ConnMapCall call{.kind = ConnMapCall::Kind::kInsert, .place = Place(generation)};
  if (found.has_value()) call.found = Place(*found);
  return {call, begin, end};
}
Entry Find(int64_t begin, int64_t end, std::optional<uint32_t> found) {
  ConnMapCall call{.kind = ConnMapCall::Kind::kFind};
  if (found.has_value()) call.found = Place(*found);
  return {call, begin, end};
}
Entry Update(int64_t begin, int64_t end, uint32_t generation, ConnChange change) {
  return {{.kind = ConnMapCall::Kind::kUpdate, .place = Place(generation), .change = change}, begin, end};
}
Entry Erase(int64_t begin, int64_t end, uint32_t generation, ConnChange change) {
  return {{.kind = ConnMapCall::Kind::kErase, .place = Place(generation), .change = change}, begin, end};
}

bool Linearizable(const std::vector<History>& threads) { return IsLinearizable(threads, ConnMapModel{}); }

TEST(LinearizabilityTest, OneThreadIsASequence) {
  EXPECT_TRUE(Linearizable({}));
  EXPECT_TRUE(
      Linearizable({{Find(0, 1, {}), Insert(2, 3, 5, {}), Find(4, 5, 5), Insert(6, 7, 6, 5),
                     Update(8, 9, 5, ConnChange::kStale), Update(10, 11, 7, ConnChange::kDone), Find(12, 13, 7),
                     Erase(14, 15, 5, ConnChange::kStale), Erase(16, 17, 7, ConnChange::kDone), Find(18, 19, {}),
                     Erase(20, 21, 7, ConnChange::kAbsent), Update(22, 23, 8, ConnChange::kAbsent)}}));
  EXPECT_FALSE(Linearizable({{Find(0, 1, 5)}}));
  EXPECT_FALSE(Linearizable({{Insert(0, 1, 5, {}), Find(2, 3, {})}}));
  EXPECT_FALSE(Linearizable({{Insert(0, 1, 5, {}), Insert(2, 3, 6, {})}}));
  EXPECT_FALSE(Linearizable({{Insert(0, 1, 5, {}), Update(2, 3, 5, ConnChange::kDone)}}));
  EXPECT_FALSE(Linearizable({{Insert(0, 1, 5, {}), Erase(2, 3, 4, ConnChange::kDone)}}));
}

TEST(LinearizabilityTest, WhatOverlapsMayHaveEitherOrder) {
  EXPECT_TRUE(Linearizable({{Insert(0, 10, 5, {})}, {Find(1, 2, {})}}));
  EXPECT_TRUE(Linearizable({{Insert(0, 10, 5, {})}, {Find(1, 2, 5)}}));
  EXPECT_TRUE(Linearizable({{Insert(0, 10, 5, {})}, {Insert(0, 10, 6, 5)}}));
  EXPECT_TRUE(Linearizable({{Insert(0, 10, 5, 6)}, {Insert(0, 10, 6, {})}}));
}

TEST(LinearizabilityTest, WhatEndedBeforeIsBefore) {
  EXPECT_FALSE(Linearizable({{Insert(0, 3, 5, {})}, {Find(4, 6, {})}})) << "a finished insert was not found";
  EXPECT_FALSE(Linearizable({{Find(0, 3, 5)}, {Insert(4, 6, 5, {})}})) << "found before it was inserted";
  EXPECT_FALSE(Linearizable({{Insert(0, 1, 5, {}), Erase(2, 3, 5, ConnChange::kDone)}, {Find(4, 5, 5)}}))
      << "found after it was erased";
}

TEST(LinearizabilityTest, BothOfTwoCannotWin) {
  EXPECT_FALSE(Linearizable({{Insert(0, 10, 5, {})}, {Insert(0, 10, 6, {})}}));
  EXPECT_FALSE(
      Linearizable({{Insert(0, 1, 5, {}), Erase(2, 10, 5, ConnChange::kDone)}, {Erase(3, 11, 5, ConnChange::kDone)}}));
}

TEST(LinearizabilityTest, TwoReadersMustAgreeOnTheOrder) {
  // While it is being inserted one reader finds it, and a later one does not.
  EXPECT_FALSE(Linearizable({{Insert(0, 10, 5, {})}, {Find(1, 2, 5)}, {Find(3, 4, {})}}));
  // Two updates in either order, but not in both.
  EXPECT_FALSE(Linearizable({{Insert(0, 1, 1, {}), Update(2, 20, 2, ConnChange::kDone)},
                             {Update(2, 20, 3, ConnChange::kDone)},
                             {Find(3, 4, 3), Find(5, 6, 2)}}));
  EXPECT_TRUE(Linearizable({{Insert(0, 1, 1, {}), Update(2, 20, 2, ConnChange::kDone)},
                            {Update(2, 20, 3, ConnChange::kDone)},
                            {Find(3, 4, 2), Find(5, 6, 3)}}));
}

TEST(LinearizabilityTest, AnUpdateLeavesNoGap) {
  EXPECT_FALSE(Linearizable({{Insert(0, 1, 1, {}), Update(2, 20, 2, ConnChange::kDone)}, {Find(5, 6, {})}}));
}

}  // namespace
}  // namespace tunnel::core::testing
