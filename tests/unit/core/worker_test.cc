#include "core/worker.h"

#include <gtest/gtest.h>

#include <future>
#include <memory>
#include <thread>
#include <vector>

#include "reactor_fixture.h"

namespace tunnel::core {
namespace {

using testing::ReactorTest;

class WorkerTest : public ReactorTest {};
TUNNEL_FOR_EVERY_BACKEND(WorkerTest);

TEST_P(WorkerTest, WorksElsewhereAndIsDoneHere) {
  Worker worker(reactor());
  std::thread::id worked;
  std::thread::id done;
  worker.Run([&] { worked = std::this_thread::get_id(); }, [&] { done = std::this_thread::get_id(); });
  ASSERT_TRUE(RunUntil([&] { return done != std::thread::id(); }));
  EXPECT_EQ(done, std::this_thread::get_id());
  EXPECT_NE(worked, done);
}

TEST_P(WorkerTest, KeepsTheOrder) {
  Worker worker(reactor());
  std::vector<int> worked;
  std::vector<int> done;
  for (int i = 0; i < 100; ++i) {
    worker.Run([&worked, i] { worked.push_back(i); }, [&done, i] { done.push_back(i); });
  }
  ASSERT_TRUE(RunUntil([&] { return done.size() == 100; }));
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(worked[static_cast<size_t>(i)], i);
    EXPECT_EQ(done[static_cast<size_t>(i)], i);
  }
}

TEST_P(WorkerTest, TheReactorTurnsMeanwhile) {
  Worker worker(reactor());
  std::promise<void> release;
  bool done = false;
  worker.Run([&, released = release.get_future()]() mutable { released.wait(); }, [&] { done = true; });
  bool turned = false;
  reactor().Defer([&] { turned = true; });
  ASSERT_TRUE(RunUntil([&] { return turned; }));
  EXPECT_FALSE(done);
  release.set_value();
  ASSERT_TRUE(RunUntil([&] { return done; }));
}

TEST_P(WorkerTest, EndsWhatWasAskedForAndSaysNothingMore) {
  int worked = 0;
  bool done = false;
  {
    Worker worker(reactor());
    for (int i = 0; i < 10; ++i) worker.Run([&] { ++worked; }, [&] { done = true; });
    Settle();
    done = false;  // from here on nothing may come
    worker.Run([&] { ++worked; }, [&] { done = true; });
  }
  EXPECT_EQ(worked, 11);
  bool turned = false;
  reactor().Defer([&] { turned = true; });
  ASSERT_TRUE(RunUntil([&] { return turned; }));
  EXPECT_FALSE(done);
}

TEST_P(WorkerTest, MayGoFromWhatItIsDoneWith) {
  auto worker = std::make_unique<Worker>(reactor());
  bool done = false;
  worker->Run([] {},
              [&] {
                worker.reset();
                done = true;
              });
  ASSERT_TRUE(RunUntil([&] { return done; }));
}

TEST_P(WorkerTest, UnusedItCostsNoThread) { const Worker worker(reactor()); }

}  // namespace
}  // namespace tunnel::core
