// The receiving half of mux/2's flow control: what it allows, when it says so, and how it grows.
#include "net/mux_receive_window.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <random>

namespace tunnel::net {
namespace {

using std::chrono::milliseconds;

constexpr core::Duration kPathRoundTrip = milliseconds(100);

// A peer that sends all it may and learns of credit one round trip later.
class EagerPeer {
 public:
  explicit EagerPeer(MuxReceiveWindow& window) : window_(window) {}

  // One round trip, in which the path takes at most `bytes`; the application reads at once.
  void RoundTrip(uint64_t bytes) {
    constexpr int kSteps = 50;
    const uint64_t allowed = std::min(bytes, window_.limit() - window_.received());
    for (int i = 0; i < kSteps; ++i) {
      now_ += kPathRoundTrip / kSteps;
      const auto share = static_cast<size_t>(allowed * static_cast<uint64_t>(i + 1) / kSteps -
                                             allowed * static_cast<uint64_t>(i) / kSteps);
      ASSERT_TRUE(window_.OnReceived(share));
      window_.OnConsumed(share, now_, kPathRoundTrip);
    }
    if (window_.credit_owed()) window_.Tell();
  }
  void Wait(core::Duration time) { now_ += time; }
  core::TimePoint now() const { return now_; }

 private:
  MuxReceiveWindow& window_;
  core::TimePoint now_ = core::TimePoint{} + std::chrono::hours(1);
};

TEST(MuxReceiveWindow, AllowsItsFirstSizeAndNotAByteMore) {
  MuxBudget budget;
  MuxReceiveWindow window(budget);
  EXPECT_EQ(window.limit(), kMuxFirstWindowBytes);
  EXPECT_TRUE(window.OnReceived(kMuxFirstWindowBytes));
  EXPECT_TRUE(window.OnReceived(0));
  EXPECT_FALSE(window.OnReceived(1));
  EXPECT_EQ(window.received(), kMuxFirstWindowBytes);
}

TEST(MuxReceiveWindow, OwesCreditFromTheFirstByteAndAsksForItAfterAQuarter) {
  MuxBudget budget;
  MuxReceiveWindow window(budget);
  EXPECT_FALSE(window.credit_owed());
  ASSERT_TRUE(window.OnReceived(kMuxFirstWindowBytes));
  window.OnConsumed(1, {}, {});
  EXPECT_TRUE(window.credit_owed());
  window.OnConsumed(kMuxFirstWindowBytes / 4 - 2, {}, {});
  EXPECT_FALSE(window.credit_due());
  window.OnConsumed(1, {}, {});
  EXPECT_TRUE(window.credit_due());
  window.Tell();
  EXPECT_FALSE(window.credit_owed());
  EXPECT_FALSE(window.credit_due());
  EXPECT_EQ(window.limit(), kMuxFirstWindowBytes + kMuxFirstWindowBytes / 4);
}

TEST(MuxReceiveWindow, DoublesEachRoundTripThatItHoldsUp) {
  MuxBudget budget;
  MuxReceiveWindow window(budget);
  EagerPeer peer(window);
  int round_trips = 0;
  while (window.size() < kMuxMaxWindowBytes && round_trips < 100) {
    peer.RoundTrip(UINT64_MAX);
    ++round_trips;
  }
  // Six doublings. A round trip is watched from one piece on and needs the next to end, so not quite one each.
  EXPECT_LE(round_trips, 14);
  EXPECT_EQ(window.size(), kMuxMaxWindowBytes);
  EXPECT_EQ(budget.windows(), kMuxMaxWindowBytes - kMuxFirstWindowBytes);
  for (int i = 0; i < 10; ++i) peer.RoundTrip(UINT64_MAX);
  EXPECT_EQ(window.size(), kMuxMaxWindowBytes);
}

TEST(MuxReceiveWindow, GrowsNoFurtherThanThePathNeeds) {
  MuxBudget budget;
  MuxReceiveWindow window(budget);
  EagerPeer peer(window);
  const uint64_t product = 1'250'000;  // 100 Mbit/s
  for (int i = 0; i < 100; ++i) peer.RoundTrip(product);
  EXPECT_GE(window.size(), product);
  EXPECT_LE(window.size(), 4 * product);
}

TEST(MuxReceiveWindow, StaysWhereNothingIsKnownOfTheRoundTrip) {
  MuxBudget budget;
  MuxReceiveWindow window(budget);
  core::TimePoint now{};
  for (int i = 0; i < 1000; ++i) {
    ASSERT_TRUE(window.OnReceived(100'000));
    now += milliseconds(1);
    window.OnConsumed(100'000, now, core::Duration::zero());
    window.Tell();
  }
  EXPECT_EQ(window.size(), kMuxFirstWindowBytes);
}

TEST(MuxReceiveWindow, TakesNoMoreThanTheBudgetHas) {
  MuxBudget budget(3 * kMuxFirstWindowBytes, kMuxHeldBudgetBytes);
  MuxReceiveWindow first(budget);
  MuxReceiveWindow second(budget);
  EagerPeer peer_of_first(first);
  EagerPeer peer_of_second(second);
  for (int i = 0; i < 20; ++i) peer_of_first.RoundTrip(UINT64_MAX);
  EXPECT_EQ(first.size(), 4 * kMuxFirstWindowBytes);
  for (int i = 0; i < 20; ++i) peer_of_second.RoundTrip(UINT64_MAX);
  EXPECT_EQ(second.size(), kMuxFirstWindowBytes);
  first.Close();
  EXPECT_EQ(budget.windows(), 0U);
  for (int i = 0; i < 20; ++i) peer_of_second.RoundTrip(UINT64_MAX);
  EXPECT_EQ(second.size(), 4 * kMuxFirstWindowBytes);
}

TEST(MuxReceiveWindow, FallsBackAfterAPauseAndKeepsItsPromise) {
  MuxBudget budget;
  MuxReceiveWindow window(budget);
  EagerPeer peer(window);
  for (int i = 0; i < 20; ++i) peer.RoundTrip(UINT64_MAX);
  const uint64_t promised = window.limit();
  peer.Wait(kMuxIdleWindowLimit);
  ASSERT_TRUE(window.OnReceived(1));
  window.OnConsumed(1, peer.now(), kPathRoundTrip);
  EXPECT_EQ(window.size(), kMuxFirstWindowBytes);
  EXPECT_EQ(budget.windows(), 0U);
  window.Tell();
  EXPECT_EQ(window.limit(), promised);
  EXPECT_TRUE(window.OnReceived(static_cast<size_t>(promised - window.received())));
  EXPECT_FALSE(window.OnReceived(1));
}

class MuxReceiveWindowModel : public testing::TestWithParam<uint64_t> {};

TEST_P(MuxReceiveWindowModel, HoldsItsRules) {
  std::mt19937_64 random(GetParam());
  const auto below = [&random](uint64_t limit) { return random() % limit; };
  const uint64_t budget_bytes = below(2) == 0 ? kMuxWindowBudgetBytes : below(4 * kMuxMaxWindowBytes);
  MuxBudget budget(budget_bytes, kMuxHeldBudgetBytes);
  MuxReceiveWindow window(budget);
  uint64_t received = 0;
  uint64_t consumed = 0;
  uint64_t told = 0;
  uint64_t limit = kMuxFirstWindowBytes;
  core::TimePoint now{};
  for (int i = 0; i < 5000; ++i) {
    now += milliseconds(below(100) == 0 ? below(20'000) : below(30));
    switch (below(4)) {
      case 0: {
        const uint64_t bytes = below(2) == 0 ? below(2 * kMuxFirstWindowBytes) : limit - received + below(3);
        const bool allowed = received + bytes <= limit;
        ASSERT_EQ(window.OnReceived(static_cast<size_t>(bytes)), allowed);
        if (allowed) received += bytes;
        break;
      }
      case 1:
      case 2: {
        const uint64_t bytes = below(received - consumed + 1);
        window.OnConsumed(static_cast<size_t>(bytes), now, milliseconds(below(3) * 40));
        consumed += bytes;
        break;
      }
      default:
        if (!window.credit_due() && below(4) != 0) break;
        window.Tell();
        told = consumed;
        ASSERT_GE(window.limit(), limit);
        ASSERT_GE(window.limit(), consumed + window.size());
        ASSERT_LE(window.limit(), consumed + kMuxMaxWindowBytes);
        limit = window.limit();
    }
    ASSERT_EQ(window.received(), received);
    ASSERT_EQ(window.consumed(), consumed);
    ASSERT_EQ(window.limit(), limit);
    ASSERT_EQ(window.credit_owed(), consumed != told);
    ASSERT_TRUE(!window.credit_due() || window.credit_owed());
    // A peer that waits for credit gets it: what is untold stays less than what it may have under way.
    ASSERT_TRUE(window.credit_due() || consumed - told < window.size());
    ASSERT_GE(window.size(), kMuxFirstWindowBytes);
    ASSERT_LE(window.size(), kMuxMaxWindowBytes);
    ASSERT_EQ(budget.windows(), window.size() - kMuxFirstWindowBytes);
    ASSERT_LE(budget.windows(), budget_bytes);
  }
  window.Close();
  EXPECT_EQ(budget.windows(), 0U);
}

INSTANTIATE_TEST_SUITE_P(Seeds, MuxReceiveWindowModel, testing::Range<uint64_t>(1, 21));

}  // namespace
}  // namespace tunnel::net
