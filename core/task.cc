#include "core/task.h"

#include "core/reactor.h"

namespace tunnel::core {

absl::Status TaskContext::interruption() const {
  if (cancelled_) return Cancelled();
  if (expired_deadlines_ > 0) return absl::DeadlineExceededError("timed out");
  return absl::OkStatus();
}

void TaskContext::Resume(std::coroutine_handle<> handle) { reactor_.ScheduleResume(handle); }

DeadlineGuard::DeadlineGuard(TaskContext& context, Duration limit)
    : context_(context), timer_(context.reactor().timers(), [this] {
        expired_ = true;
        ++context_.expired_deadlines_;
        context_.Interrupt();
      }) {
  timer_.SetAfter(limit);
}

DeadlineGuard::~DeadlineGuard() {
  if (expired_) --context_.expired_deadlines_;
}

// A spawned task's outermost coroutine: runs the task, then removes itself.
struct Scope::Root : ListLink<Scope> {
  struct promise_type {
    Root* root = nullptr;
    [[nodiscard]] TaskContext& context() const { return root->context; }
    std::coroutine_handle<promise_type> get_return_object() {
      return std::coroutine_handle<promise_type>::from_promise(*this);
    }
    std::suspend_always initial_suspend() noexcept { return {}; }
    struct FinalAwaiter {
      bool await_ready() noexcept { return false; }
      void await_suspend(std::coroutine_handle<promise_type> self) noexcept {
        Root* finished = self.promise().root;
        self.destroy();
        finished->scope.Finished(*finished);
      }
      void await_resume() noexcept {}
    };
    FinalAwaiter final_suspend() noexcept { return {}; }
    void return_void() {}
    [[noreturn]] void unhandled_exception() noexcept { std::abort(); }
  };
  struct Handle {
    using promise_type = Root::promise_type;
    // NOLINTNEXTLINE(google-explicit-constructor): how a coroutine makes its return value
    Handle(std::coroutine_handle<promise_type> h) : handle(h) {}
    std::coroutine_handle<promise_type> handle;
  };
  static Handle Run(Task<void> task) { co_await std::move(task); }

  explicit Root(Scope& owner) : scope(owner), context(owner.reactor_) {}
  Scope& scope;
  TaskContext context;
};

Scope::Scope(Reactor& reactor) : reactor_(reactor) {}

Scope::~Scope() { TUNNEL_CHECK(empty()); }

void Scope::Spawn(Task<void> task) {
  auto* root = new Root(*this);
  root->context.cancelled_ = cancelled_;
  list_.PushBack(*root);
  ++roots_;
  const auto handle = Root::Run(std::move(task)).handle;
  handle.promise().root = root;
  handle.resume();
}

void Scope::Cancel() {
  if (cancelled_) return;
  cancelled_ = true;
  list_.ForEach([](Root& root) { root.context.cancelled_ = true; });
  list_.ForEach([](Root& root) { root.context.Interrupt(); });
}

void Scope::Finished(Root& root) {
  delete &root;
  --roots_;
  if (roots_ == 0 && joiner_) reactor_.ScheduleResume(std::exchange(joiner_, nullptr));
}

bool Sleep::Suspend(TaskContext& context, std::coroutine_handle<> self) {
  status_ = context.interruption();
  if (!status_.ok()) return false;
  context_ = &context;
  self_ = self;
  timer_.emplace(context.reactor().timers(), [this] {
    context_->SetWaiter(nullptr);
    context_->Resume(self_);
  });
  timer_->SetAfter(delay_);
  context.SetWaiter(this);
  return true;
}

void Sleep::Interrupt() {
  timer_->Cancel();
  status_ = context_->interruption();
  context_->Resume(self_);
}

bool Event::Awaiter::Suspend(TaskContext& context, std::coroutine_handle<> self) {
  status_ = context.interruption();
  if (!status_.ok()) return false;
  context_ = &context;
  self_ = self;
  event_.waiters_.PushBack(*this);
  context.SetWaiter(this);
  return true;
}

void Event::Awaiter::Interrupt() {
  Unlink();
  status_ = context_->interruption();
  context_->Resume(self_);
}

void Event::Set() {
  set_ = true;
  while (!waiters_.empty()) {
    Awaiter& waiter = waiters_.PopFront();
    waiter.context_->SetWaiter(nullptr);
    waiter.context_->Resume(waiter.self_);
  }
}

}  // namespace tunnel::core
