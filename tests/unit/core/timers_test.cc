#include "core/timers.h"

#include <gtest/gtest.h>

#include <deque>
#include <map>
#include <memory>
#include <random>
#include <vector>

namespace tunnel::core {
namespace {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;

constexpr TimePoint kStart = TimePoint(std::chrono::seconds(1000));

// Every distance near which the wheel's arithmetic changes: around each power of the slot count and its multiples.
std::vector<int64_t> InterestingTicks() {
  std::vector<int64_t> ticks;
  for (int64_t small = 0; small <= 200; ++small) ticks.push_back(small);
  for (int level = 1; level <= 5; ++level) {
    const int64_t unit = int64_t{1} << (6 * level);
    for (const int64_t times : {1, 2, 31, 62, 63, 64}) {
      for (const int64_t off : {-65, -64, -63, -1, 0, 1, 63, 64, 65}) {
        if (unit * times + off > 0) ticks.push_back(unit * times + off);
      }
    }
  }
  std::erase_if(ticks, [](int64_t tick) { return tick >= int64_t{1} << 36; });
  return ticks;
}

// Follows NextDeadline() as the reactor does and returns when the timer ran. Fails when a deadline is late or the
// wheel is asked more often than a level has to be spread.
TimePoint RunAlone(TimerWheel& wheel, Timer& timer, const bool& ran) {
  int steps = 0;
  while (!ran) {
    EXPECT_TRUE(wheel.Validate()) << wheel.Dump();
    const TimePoint next = wheel.NextDeadline();
    EXPECT_GT(next, wheel.now());
    if (++steps > 8 || next <= wheel.now() || !timer.armed()) {
      ADD_FAILURE() << "after " << steps << " steps: " << wheel.Dump();
      return kNever;
    }
    wheel.Advance(next);
  }
  EXPECT_EQ(wheel.NextDeadline(), kNever);
  return wheel.now();
}

TEST(TimerWheel, EveryDistanceFromEveryPositionIsExact) {
  const std::vector<int64_t> distances = InterestingTicks();
  for (const int64_t position :
       {0LL, 1LL, 62LL, 63LL, 64LL, 65LL, 4095LL, 4096LL, 4097LL, 262143LL, 262144LL, 16777215LL, 16777216LL,
        1073741823LL, 1073741824LL, (1LL << 36) - 1, 1LL << 36, (1LL << 37) + 77}) {
    for (const int64_t distance : distances) {
      TimerWheel wheel(kStart);
      wheel.Advance(kStart + milliseconds(position));
      bool ran = false;
      Timer timer(wheel, [&] { ran = true; });
      const TimePoint due = kStart + milliseconds(position + distance);
      timer.SetAt(due);
      const TimePoint when = RunAlone(wheel, timer, ran);
      // What is due now runs with the next tick; everything else to the tick.
      const TimePoint expected = distance == 0 ? due + milliseconds(1) : due;
      ASSERT_EQ((when - expected).count(), 0) << position << " + " << distance;
    }
  }
}

TEST(TimerWheel, NeverRunsEarlyWithinATick) {
  for (const int64_t start_ns : {0, 1, 500'000, 999'999}) {
    for (const int64_t due_ns : {0, 1, 2, 499'999, 999'999, 1'000'000, 1'000'001, 63'999'999, 64'000'000, 64'000'001}) {
      TimerWheel wheel(kStart);
      wheel.Advance(kStart + nanoseconds(start_ns));
      bool ran = false;
      Timer timer(wheel, [&] { ran = true; });
      timer.SetAfter(nanoseconds(due_ns));
      const TimePoint when = RunAlone(wheel, timer, ran);
      const Duration late = when - (kStart + nanoseconds(start_ns + due_ns));
      EXPECT_GE(late.count(), 0);
      EXPECT_LE(late, milliseconds(1));
    }
  }
}

TEST(TimerWheel, AgreesWithAReferenceUnderRandomUse) {
  constexpr size_t kTimers = 200;
  for (unsigned seed = 1; seed <= 12; ++seed) {
    std::mt19937_64 random(seed);
    TimerWheel wheel(kStart);
    std::multimap<int64_t, size_t> reference;  // due tick -> timer
    std::vector<std::multimap<int64_t, size_t>::iterator> places(kTimers, reference.end());
    std::vector<std::pair<int64_t, size_t>> ran;
    std::deque<Timer> timers;
    int64_t now = 0;
    for (size_t i = 0; i < kTimers; ++i) timers.emplace_back(wheel, [&, i] { ran.emplace_back(0, i); });
    const auto forget = [&](size_t i) {
      if (places[i] != reference.end()) reference.erase(std::exchange(places[i], reference.end()));
    };
    for (int step = 0; step < 1500; ++step) {
      const size_t i = random() % kTimers;
      const auto magnitude = static_cast<unsigned>(random() % 36);
      const auto distance = static_cast<int64_t>(random() & ((uint64_t{1} << magnitude) - 1)) + 1;
      switch (random() % 4) {
        case 0:
        case 1:
          timers[i].SetAt(kStart + milliseconds(now + distance));
          forget(i);
          places[i] = reference.emplace(now + distance, i);
          break;
        case 2:
          timers[i].Cancel();
          forget(i);
          break;
        default: {
          // Sometimes far beyond the next deadline: the machine slept.
          const int64_t jump = random() % 8 == 0 ? distance : static_cast<int64_t>(random() % 100);
          ran.clear();
          now += jump;
          wheel.Advance(kStart + milliseconds(now));
          std::vector<size_t> expected;
          while (!reference.empty() && reference.begin()->first <= now) {
            expected.push_back(reference.begin()->second);
            forget(reference.begin()->second);
          }
          ASSERT_EQ(ran.size(), expected.size()) << "seed " << seed << " step " << step;
          std::vector<size_t> got;
          for (const auto& entry : ran) got.push_back(entry.second);
          std::sort(got.begin(), got.end());
          std::sort(expected.begin(), expected.end());
          ASSERT_EQ(got, expected);
        }
      }
      ASSERT_TRUE(wheel.Validate()) << wheel.Dump();
      ASSERT_EQ(wheel.armed(), reference.size());
      if (reference.empty()) {
        ASSERT_EQ(wheel.NextDeadline(), kNever);
      } else {
        ASSERT_LE(wheel.NextDeadline(), kStart + milliseconds(reference.begin()->first)) << wheel.Dump();
        ASSERT_GT(wheel.NextDeadline(), wheel.now());
      }
    }
  }
}

TEST(TimerWheel, RunsInOrderOfTimeOverALongJump) {
  TimerWheel wheel(kStart);
  std::vector<int64_t> order;
  std::deque<Timer> timers;
  for (const int64_t tick : {70'000'000'00LL, 5LL, 64LL, 63LL, 4096LL, 1LL, 300'000LL, 20'000'000LL, 65LL}) {
    timers.emplace_back(wheel, [&order, tick] { order.push_back(tick); }).SetAt(kStart + milliseconds(tick));
  }
  wheel.Advance(kStart + std::chrono::hours(24 * 365));
  EXPECT_EQ(order, (std::vector<int64_t>{1, 5, 63, 64, 65, 4096, 300'000, 20'000'000, 7'000'000'000}));
  EXPECT_EQ(wheel.armed(), 0U);
}

TEST(TimerWheel, IdleWheelWakesNobody) {
  TimerWheel wheel(kStart);
  EXPECT_EQ(wheel.NextDeadline(), kNever);
  Timer timer(wheel, [] { FAIL(); });
  timer.SetAfter(milliseconds(10));
  EXPECT_NE(wheel.NextDeadline(), kNever);
  timer.Cancel();
  timer.Cancel();
  EXPECT_FALSE(timer.armed());
  EXPECT_EQ(wheel.NextDeadline(), kNever);
  wheel.Advance(kStart + std::chrono::hours(1));
}

TEST(TimerWheel, DelaysWithoutEndDoNotWrap) {
  TimerWheel wheel(kStart);
  Timer for_ever(wheel, [] { FAIL(); });
  Timer never(wheel, [] { FAIL(); });
  for_ever.SetAfter(Duration::max());
  never.SetAt(kNever);
  wheel.Advance(kStart + std::chrono::hours(24 * 365));
  EXPECT_TRUE(for_ever.armed());
  EXPECT_TRUE(never.armed());
  TimerWheel from_zero{TimePoint()};
  Timer zero(from_zero, [] { FAIL(); });
  zero.SetAt(kNever);
  zero.SetAfter(Duration::max());
  from_zero.Advance(TimePoint(std::chrono::hours(1)));
}

TEST(TimerWheel, ThePastIsDueWithTheNextTick) {
  TimerWheel wheel(kStart);
  wheel.Advance(kStart + milliseconds(500));
  int runs = 0;
  Timer past(wheel, [&] { ++runs; });
  past.SetAt(kStart);
  wheel.Advance(kStart + milliseconds(500));
  EXPECT_EQ(runs, 0);
  wheel.Advance(kStart + milliseconds(501));
  EXPECT_EQ(runs, 1);
}

TEST(TimerWheel, CallbackSetsItsOwnTimerAgain) {
  TimerWheel wheel(kStart);
  int runs = 0;
  Timer* self = nullptr;
  Timer timer(wheel, [&] {
    ++runs;
    self->SetAfter(milliseconds(10));
  });
  self = &timer;
  timer.SetAfter(milliseconds(10));
  for (int i = 1; i <= 100; ++i) {
    wheel.Advance(kStart + milliseconds(10 * i));
    ASSERT_EQ(runs, i);
    ASSERT_TRUE(wheel.Validate()) << wheel.Dump();
  }
  // A long sleep runs it once, not once for every period missed.
  wheel.Advance(kStart + std::chrono::hours(1));
  EXPECT_EQ(runs, 101);
}

TEST(TimerWheel, CallbackCancelsAndMovesOthersDueInTheSameTick) {
  TimerWheel wheel(kStart);
  int cancelled_runs = 0;
  int moved_runs = 0;
  Timer cancelled(wheel, [&] { ++cancelled_runs; });
  Timer moved(wheel, [&] { ++moved_runs; });
  Timer first(wheel, [&] {
    cancelled.Cancel();
    moved.SetAfter(milliseconds(64));
  });
  for (Timer* timer : {&first, &cancelled, &moved}) timer->SetAfter(milliseconds(5));
  wheel.Advance(kStart + milliseconds(5));
  EXPECT_EQ(cancelled_runs, 0);
  EXPECT_EQ(moved_runs, 0);
  EXPECT_TRUE(wheel.Validate()) << wheel.Dump();
  wheel.Advance(kStart + milliseconds(69));
  EXPECT_EQ(moved_runs, 1);
}

TEST(TimerWheel, CallbackDestroysItsOwnTimerAndOthers) {
  TimerWheel wheel(kStart);
  auto payload = std::make_shared<int>(7);
  std::unique_ptr<Timer> own;
  std::unique_ptr<Timer> other = std::make_unique<Timer>(wheel, [] { FAIL(); });
  int seen = 0;
  own = std::make_unique<Timer>(wheel, [&own, &other, &seen, payload] {
    own.reset();
    other.reset();
    seen = *payload;  // the callback's own state is still there
  });
  own->SetAfter(milliseconds(5));
  other->SetAfter(milliseconds(5));
  wheel.Advance(kStart + milliseconds(5));
  EXPECT_EQ(seen, 7);
  EXPECT_EQ(payload.use_count(), 1);
  EXPECT_EQ(wheel.armed(), 0U);
}

TEST(TimerWheel, CallbackReplacesItsTimerInPlace) {
  TimerWheel wheel(kStart);
  int old_runs = 0;
  int new_runs = 0;
  std::optional<Timer> timer;
  timer.emplace(wheel, [&] {
    ++old_runs;
    timer.emplace(wheel, [&] { ++new_runs; });
    timer->SetAfter(milliseconds(1));
  });
  timer->SetAfter(milliseconds(1));
  wheel.Advance(kStart + milliseconds(1));
  wheel.Advance(kStart + milliseconds(10));
  EXPECT_EQ(old_runs, 1);
  EXPECT_EQ(new_runs, 1);
}

TEST(TimerWheel, SetNowMovesWhatDelaysCountFrom) {
  TimerWheel wheel(kStart);
  wheel.SetNow(kStart + std::chrono::seconds(10));
  int runs = 0;
  Timer timer(wheel, [&] { ++runs; });
  timer.SetAfter(milliseconds(100));
  wheel.Advance(kStart + std::chrono::seconds(10));
  EXPECT_EQ(runs, 0);
  wheel.Advance(kStart + std::chrono::seconds(10) + milliseconds(100));
  EXPECT_EQ(runs, 1);
}

}  // namespace
}  // namespace tunnel::core
