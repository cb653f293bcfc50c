#include "core/task.h"

#include <string>
#include <vector>

#include "reactor_fixture.h"

namespace tunnel::core {
namespace {

using std::chrono::milliseconds;
using testing::ReactorTest;

class TaskTest : public ReactorTest {};
TUNNEL_FOR_EVERY_BACKEND_AND_SIM(TaskTest);

struct Log {
  std::vector<std::string> lines;
  void Add(std::string line) { lines.push_back(std::move(line)); }
};

// Says when a frame, with all it holds, is gone.
class Tracer {
 public:
  explicit Tracer(int* alive) : alive_(alive) { ++*alive_; }
  Tracer(const Tracer& other) : alive_(other.alive_) { ++*alive_; }
  Tracer& operator=(const Tracer&) = delete;
  ~Tracer() { --*alive_; }

 private:
  int* alive_;
};

Task<int> Value(int value) { co_return value; }

Task<int> Sum(int depth) {
  if (depth == 0) co_return 0;
  co_return depth + co_await Sum(depth - 1);
}

Task<std::unique_ptr<std::string>> MakeText(std::string text) {
  co_return std::make_unique<std::string>(std::move(text));
}

Task<absl::StatusOr<std::string>> Refuse(bool refuse) {
  if (refuse) co_return absl::PermissionDeniedError("no");
  co_return std::string("yes");
}

Task<void> Values(Log* log) {
  log->Add(std::to_string(co_await Value(42)));
  log->Add(std::to_string(co_await Sum(50)));
  const std::unique_ptr<std::string> text = co_await MakeText("a text long enough to live on the heap of the program");
  log->Add(*text);
  log->Add((co_await Refuse(true)).ok() ? "ok" : "refused");
  log->Add(*co_await Refuse(false));
  int total = 0;
  for (int i = 0; i < 2000; ++i) total += co_await Value(1);
  log->Add(std::to_string(total));
}

TEST_P(TaskTest, AwaitsPassValues) {
  Log log;
  Scope scope(reactor());
  scope.Spawn(Values(&log));
  EXPECT_TRUE(scope.empty()) << "nothing in it waits";
  EXPECT_EQ(log.lines, (std::vector<std::string>{"42", "1275", "a text long enough to live on the heap of the program",
                                                 "refused", "yes", "2000"}));
}

Task<absl::Status> Inner(Event* event, Tracer /*tracer*/, std::string name, Log* log) {
  const absl::Status status = co_await event->Wait();
  log->Add(name + " " + std::string(MessageOf(status)));
  co_return status;
}

Task<void> Outer(Event* event, Tracer tracer, std::string name, Log* log) {
  const absl::Status status = co_await Inner(event, tracer, name, log);
  log->Add(name + (status.ok() ? " done" : " unwinds"));
}

TEST_P(TaskTest, TasksNeverStartedAreDestroyedWithWhatTheyHold) {
  int alive = 0;
  Event event;
  Log log;
  {
    const Task<void> task = Outer(&event, Tracer(&alive), "x", &log);
  }
  EXPECT_EQ(alive, 0);
  EXPECT_TRUE(log.lines.empty());
}

TEST_P(TaskTest, EventWakesEveryWaiterInOrderFromTheTurn) {
  int alive = 0;
  Event event;
  Log log;
  Scope scope(reactor());
  for (const char* name : {"a", "b", "c"}) scope.Spawn(Outer(&event, Tracer(&alive), name, &log));
  EXPECT_GT(alive, 0);
  event.Set();
  EXPECT_TRUE(log.lines.empty()) << "never from inside the call";
  ASSERT_TRUE(RunUntil([&] { return scope.empty(); }));
  EXPECT_EQ(log.lines, (std::vector<std::string>{"a ", "a done", "b ", "b done", "c ", "c done"}));
  EXPECT_EQ(alive, 0);
  // It stays set.
  scope.Spawn(Outer(&event, Tracer(&alive), "d", &log));
  EXPECT_TRUE(scope.empty());
  event.Reset();
  scope.Spawn(Outer(&event, Tracer(&alive), "e", &log));
  EXPECT_FALSE(scope.empty());
  scope.Cancel();
  ASSERT_TRUE(RunUntil([&] { return scope.empty(); }));
}

TEST_P(TaskTest, CancelEndsEveryWaitAndWhatIsSpawnedAfter) {
  int alive = 0;
  Event event;
  Log log;
  Scope scope(reactor());
  scope.Spawn(Outer(&event, Tracer(&alive), "a", &log));
  scope.Spawn(Outer(&event, Tracer(&alive), "b", &log));
  scope.Cancel();
  scope.Cancel();
  EXPECT_TRUE(scope.cancelled());
  EXPECT_TRUE(log.lines.empty());
  ASSERT_TRUE(RunUntil([&] { return scope.empty(); }));
  EXPECT_EQ(log.lines, (std::vector<std::string>{"a cancelled", "a unwinds", "b cancelled", "b unwinds"}));
  scope.Spawn(Outer(&event, Tracer(&alive), "late", &log));
  EXPECT_TRUE(scope.empty()) << "its first wait ends at once";
  EXPECT_EQ(log.lines.back(), "late unwinds");
  EXPECT_EQ(alive, 0);
}

TEST_P(TaskTest, SetThenCancelKeepsTheSuccess) {
  int alive = 0;
  Event event;
  Log log;
  Scope scope(reactor());
  scope.Spawn(Outer(&event, Tracer(&alive), "a", &log));
  event.Set();
  scope.Cancel();
  ASSERT_TRUE(RunUntil([&] { return scope.empty(); }));
  EXPECT_EQ(log.lines, (std::vector<std::string>{"a ", "a done"}));
}

TEST_P(TaskTest, CancelThenSetResumesOnce) {
  int alive = 0;
  Event event;
  Log log;
  Scope scope(reactor());
  scope.Spawn(Outer(&event, Tracer(&alive), "a", &log));
  scope.Cancel();
  event.Set();
  ASSERT_TRUE(RunUntil([&] { return scope.empty(); }));
  EXPECT_EQ(log.lines, (std::vector<std::string>{"a cancelled", "a unwinds"}));
}

Task<void> SleepFor(Duration delay, Log* log) {
  const absl::Status status = co_await Sleep(delay);
  log->Add(status.ok() ? "slept" : std::string(MessageOf(status)));
}

TEST_P(TaskTest, SleepTakesItsTimeAndCanBeCutShort) {
  Log log;
  Scope scope(reactor());
  const TimePoint start = reactor().now();
  scope.Spawn(SleepFor(milliseconds(15), &log));
  ASSERT_TRUE(RunUntil([&] { return scope.empty(); }));
  EXPECT_GE(reactor().backend().Now() - start, milliseconds(14));
  scope.Spawn(SleepFor(std::chrono::hours(10), &log));
  scope.Cancel();
  ASSERT_TRUE(RunUntil([&] { return scope.empty(); }));
  EXPECT_EQ(log.lines, (std::vector<std::string>{"slept", "cancelled"}));
  EXPECT_EQ(reactor().timers().armed(), 0U);
}

Task<void> NestedDeadlines(Log* log) {
  TaskContext& context = co_await CurrentTask();
  const DeadlineGuard outer(context, std::chrono::hours(1));
  {
    const DeadlineGuard inner(context, milliseconds(5));
    log->Add("inner: " + std::string(MessageOf(co_await Sleep(std::chrono::hours(2)))));
    log->Add("still: " + std::string(MessageOf(co_await Sleep(milliseconds(1)))));
  }
  log->Add("after: " + std::string(MessageOf(co_await Sleep(milliseconds(1)))));
  {
    const DeadlineGuard roomy(context, std::chrono::hours(1));
    const DeadlineGuard tight(context, milliseconds(5));
    const DeadlineGuard tighter(context, milliseconds(2));
    Event never;
    log->Add("event: " + std::string(MessageOf(co_await never.Wait())));
  }
  log->Add("end: " + std::string(MessageOf(context.interruption())));
}

TEST_P(TaskTest, DeadlineGuardsNest) {
  Log log;
  Scope scope(reactor());
  scope.Spawn(NestedDeadlines(&log));
  ASSERT_TRUE(RunUntil([&] { return scope.empty(); }));
  EXPECT_EQ(log.lines,
            (std::vector<std::string>{"inner: timed out", "still: timed out", "after: ", "event: timed out", "end: "}));
  EXPECT_EQ(reactor().timers().armed(), 0U);
}

Task<void> OuterDeadlineFirst(Log* log) {
  TaskContext& context = co_await CurrentTask();
  {
    const DeadlineGuard outer(context, milliseconds(3));
    {
      const DeadlineGuard inner(context, std::chrono::hours(1));
      log->Add((co_await Sleep(std::chrono::hours(1))).ok() ? "slept" : "cut");
    }
    log->Add((co_await Sleep(milliseconds(1))).ok() ? "slept" : "cut");
  }
  log->Add((co_await Sleep(milliseconds(1))).ok() ? "slept" : "cut");
}

TEST_P(TaskTest, AnOuterDeadlineOutlastsAnInnerGuard) {
  Log log;
  Scope scope(reactor());
  scope.Spawn(OuterDeadlineFirst(&log));
  ASSERT_TRUE(RunUntil([&] { return scope.empty(); }));
  EXPECT_EQ(log.lines, (std::vector<std::string>{"cut", "cut", "slept"}));
}

Task<void> CancelledAfterDeadline(Log* log) {
  TaskContext& context = co_await CurrentTask();
  const DeadlineGuard guard(context, milliseconds(1));
  log->Add((co_await Sleep(std::chrono::hours(1))).code() == absl::StatusCode::kDeadlineExceeded ? "deadline" : "?");
  Event never;
  log->Add((co_await never.Wait()).code() == absl::StatusCode::kDeadlineExceeded ? "deadline" : "cancelled");
}

TEST_P(TaskTest, CancelAndDeadlineTogether) {
  Log log;
  Scope scope(reactor());
  scope.Spawn(CancelledAfterDeadline(&log));
  ASSERT_TRUE(RunUntil([&] { return scope.empty(); }));
  EXPECT_EQ(log.lines, (std::vector<std::string>{"deadline", "deadline"}));
  scope.Cancel();
  log.lines.clear();
  scope.Spawn(CancelledAfterDeadline(&log));
  EXPECT_EQ(log.lines, (std::vector<std::string>{"?", "cancelled"}));
}

Task<void> JoinChildren(Reactor* reactor, Event* gate, int* alive, Log* log) {
  Scope children(*reactor);
  children.Spawn(Outer(gate, Tracer(alive), "child", log));
  children.Spawn(SleepFor(milliseconds(1), log));
  co_await children.Join();
  log->Add(children.empty() ? "joined" : "too early");
  co_await children.Join();
}

TEST_P(TaskTest, JoinWaitsForTheChildrenEvenWhenCancelled) {
  int alive = 0;
  Log log;
  Event gate;
  Scope scope(reactor());
  scope.Spawn(JoinChildren(&reactor(), &gate, &alive, &log));
  ASSERT_TRUE(RunUntil([&] { return !log.lines.empty(); }));
  scope.Cancel();  // the parent; its children go on and hold memory
  Settle();
  EXPECT_FALSE(scope.empty());
  EXPECT_EQ(log.lines, (std::vector<std::string>{"slept"}));
  gate.Set();
  ASSERT_TRUE(RunUntil([&] { return scope.empty(); }));
  EXPECT_EQ(log.lines, (std::vector<std::string>{"slept", "child ", "child done", "joined"}));
  EXPECT_EQ(alive, 0);
}

Task<void> SpawnMore(Scope* scope, int depth, int* ended) {
  if (depth > 0) {
    scope->Spawn(SpawnMore(scope, depth - 1, ended));
    scope->Spawn(SpawnMore(scope, depth - 1, ended));
  }
  (void)co_await Sleep(milliseconds(depth));
  ++*ended;
}

TEST_P(TaskTest, TasksSpawnTasks) {
  int ended = 0;
  Scope scope(reactor());
  scope.Spawn(SpawnMore(&scope, 6, &ended));
  ASSERT_TRUE(RunUntil([&] { return scope.empty(); }));
  EXPECT_EQ(ended, 127);
}

// A wait whose operation lets go only later, as one in the kernel does.
class SlowWaiter final : Waiter {
 public:
  explicit SlowWaiter(Reactor& reactor) : timer_(reactor.timers(), [this] { Done(); }) {}
  bool await_ready() { return false; }
  template <typename Promise>
  void await_suspend(std::coroutine_handle<Promise> self) {
    self_ = self;
    context_ = &self.promise().context();
    context_->SetWaiter(this);
  }
  absl::Status await_resume() { return context_->interruption(); }

 private:
  void Interrupt() override { timer_.SetAfter(milliseconds(5)); }
  void Done() { context_->Resume(self_); }
  Timer timer_;
  TaskContext* context_ = nullptr;
  std::coroutine_handle<> self_;
};

Task<void> AwaitSlowly(Log* log) {
  TaskContext& context = co_await CurrentTask();
  const DeadlineGuard guard(context, milliseconds(1));
  SlowWaiter waiter(context.reactor());
  log->Add((co_await waiter).code() == absl::StatusCode::kCancelled ? "cancelled" : "deadline");
}

TEST_P(TaskTest, AnInterruptedOperationIsInterruptedOnce) {
  Log log;
  Scope scope(reactor());
  scope.Spawn(AwaitSlowly(&log));
  ASSERT_TRUE(RunUntil([&] { return reactor().counters().timers_armed.Get() == 1; }));
  scope.Cancel();
  ASSERT_TRUE(RunUntil([&] { return scope.empty(); }));
  EXPECT_EQ(log.lines.size(), 1U);
}

TEST(TaskDeathTest, AScopeMustSeeItsTasksEnd) {
  const std::unique_ptr<Reactor> reactor = testing::MakeReactor(testing::BackendCases().front());
  Log log;
  EXPECT_DEATH(
      {
        Scope scope(*reactor);
        scope.Spawn(SleepFor(std::chrono::hours(1), &log));
      },
      "invariant broken");
}

}  // namespace
}  // namespace tunnel::core
