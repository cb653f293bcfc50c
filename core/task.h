// Structured coroutines for sequences: dial, handshake, upgrade, negotiation, drain.
//
// Task<T> is lazy: it starts when it is awaited, or when a Scope spawns it. A Scope owns the tasks it spawned, can
// cancel them and must see them end before it is destroyed; nothing is detached. Cancelling asks: the await that a task
// is in (and every later one) ends with kCancelled once its operation has let go of its memory, and the task unwinds by
// returning. Coroutine functions are named, take their parameters by value (or references their scope outlives), and
// are not capturing lambdas. One thread: that of the reactor.
//
// Awaits always resume from the reactor's turn, never from inside the call that made them ready.
#pragma once

#include <coroutine>
#include <optional>
#include <utility>

#include "core/check.h"
#include "core/intrusive_list.h"
#include "core/status.h"
#include "core/time.h"
#include "core/timers.h"

namespace tunnel::core {

class Reactor;
class Scope;
class TaskContext;

// Base of what a task waits in: told when the wait is to be cut short.
class Waiter {
 public:
  // The task was cancelled or its deadline passed. Must lead to the task's resumption, now or when the operation has
  // let go; the await then returns TaskContext::interruption() unless it had succeeded already.
  virtual void Interrupt() = 0;

 protected:
  ~Waiter() = default;
};

// What the coroutines of one spawned task share.
class TaskContext {
 public:
  explicit TaskContext(Reactor& reactor) : reactor_(reactor) {}
  TaskContext(const TaskContext&) = delete;
  TaskContext& operator=(const TaskContext&) = delete;

  [[nodiscard]] Reactor& reactor() const { return reactor_; }
  // Ok, or why awaits of this task must not wait now.
  [[nodiscard]] absl::Status interruption() const;

  // For awaitables: who is waiting now. One at a time, for a task is a sequence.
  void SetWaiter(Waiter* waiter) { waiter_ = waiter; }
  // Resumes `handle` in the reactor's turn.
  void Resume(std::coroutine_handle<> handle);

 private:
  friend class Scope;
  friend class DeadlineGuard;
  void Interrupt() {
    if (waiter_ != nullptr) std::exchange(waiter_, nullptr)->Interrupt();
  }

  Reactor& reactor_;
  bool cancelled_ = false;
  int expired_deadlines_ = 0;
  Waiter* waiter_ = nullptr;
};

// While it lives, awaits of the task end with kDeadlineExceeded once `limit` has passed. Guards may nest.
class DeadlineGuard {
 public:
  DeadlineGuard(TaskContext& context, Duration limit);
  DeadlineGuard(const DeadlineGuard&) = delete;
  DeadlineGuard& operator=(const DeadlineGuard&) = delete;
  ~DeadlineGuard();

 private:
  TaskContext& context_;
  bool expired_ = false;
  Timer timer_;
};

namespace internal {

class PromiseBase {
 public:
  [[nodiscard]] TaskContext& context() const { return *context_; }
  void set_context(TaskContext& context) { context_ = &context; }
  void set_continuation(std::coroutine_handle<> continuation) { continuation_ = continuation; }

  std::suspend_always initial_suspend() noexcept { return {}; }
  // Exceptions do not cross our code; one that gets here is our bug.
  [[noreturn]] void unhandled_exception() noexcept { std::abort(); }
  struct FinalAwaiter {
    bool await_ready() noexcept { return false; }
    template <typename Promise>
    std::coroutine_handle<> await_suspend(std::coroutine_handle<Promise> self) noexcept {
      return self.promise().continuation_;
    }
    void await_resume() noexcept {}
  };
  FinalAwaiter final_suspend() noexcept { return {}; }

 private:
  TaskContext* context_ = nullptr;
  std::coroutine_handle<> continuation_;
};

template <typename T>
class Promise : public PromiseBase {
 public:
  std::coroutine_handle<Promise> get_return_object() { return std::coroutine_handle<Promise>::from_promise(*this); }
  template <typename U>
  void return_value(U&& value) {
    value_.emplace(std::forward<U>(value));
  }
  T Take() { return std::move(*value_); }

 private:
  std::optional<T> value_;
};

template <>
class Promise<void> : public PromiseBase {
 public:
  std::coroutine_handle<Promise> get_return_object() { return std::coroutine_handle<Promise>::from_promise(*this); }
  void return_void() {}
  void Take() {}
};

}  // namespace internal

template <typename T = void>
class [[nodiscard]] Task {
 public:
  using promise_type = internal::Promise<T>;
  // NOLINTNEXTLINE(google-explicit-constructor): how a coroutine makes its return value
  Task(std::coroutine_handle<promise_type> handle) : handle_(handle) {}
  Task(Task&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Task& operator=(Task&&) = delete;
  // Destroys a task that never ran or has ended; one in between belongs to its scope.
  ~Task() {
    if (handle_) handle_.destroy();
  }

  struct Awaiter {
    std::coroutine_handle<promise_type> handle;
    bool await_ready() { return false; }
    template <typename Parent>
    std::coroutine_handle<> await_suspend(std::coroutine_handle<Parent> parent) {
      handle.promise().set_context(parent.promise().context());
      handle.promise().set_continuation(parent);
      return handle;
    }
    T await_resume() { return handle.promise().Take(); }
  };
  Awaiter operator co_await() && { return Awaiter{handle_}; }

 private:
  std::coroutine_handle<promise_type> handle_;
};

// `TaskContext& context = co_await CurrentTask();` never suspends.
struct CurrentTask {
  TaskContext* context = nullptr;
  bool await_ready() { return false; }
  template <typename Promise>
  bool await_suspend(std::coroutine_handle<Promise> self) {
    context = &self.promise().context();
    return false;
  }
  TaskContext& await_resume() { return *context; }
};

// Owns spawned tasks. Owner core only.
class Scope {
 public:
  explicit Scope(Reactor& reactor);
  Scope(const Scope&) = delete;
  Scope& operator=(const Scope&) = delete;
  // Every task must have ended.
  ~Scope();

  // Runs `task` up to its first wait, and on from the reactor's turns. What it refers to must outlive this scope.
  void Spawn(Task<void> task);
  // Cancels what runs and whatever is spawned later. Does not wait.
  void Cancel();
  [[nodiscard]] bool cancelled() const { return cancelled_; }
  [[nodiscard]] bool empty() const { return roots_ == 0; }

  // Waits until no task is left, whether or not the waiting task is cancelled: this is how memory stays in place.
  struct [[nodiscard]] JoinAwaiter {
    Scope& scope;
    bool await_ready() { return scope.empty(); }
    void await_suspend(std::coroutine_handle<> self) {
      TUNNEL_CHECK(!scope.joiner_);
      scope.joiner_ = self;
    }
    void await_resume() {}
  };
  JoinAwaiter Join() { return JoinAwaiter{*this}; }

 private:
  struct Root;
  void Finished(Root& root);

  Reactor& reactor_;
  bool cancelled_ = false;
  size_t roots_ = 0;
  IntrusiveList<Root, Scope> list_;
  std::coroutine_handle<> joiner_;
};

// Ends after `delay`: Ok, or why the wait was cut short.
class [[nodiscard]] Sleep final : Waiter {
 public:
  explicit Sleep(Duration delay) : delay_(delay) {}
  bool await_ready() { return false; }
  template <typename Promise>
  bool await_suspend(std::coroutine_handle<Promise> self) {
    return Suspend(self.promise().context(), self);
  }
  absl::Status await_resume() { return std::move(status_); }

 private:
  bool Suspend(TaskContext& context, std::coroutine_handle<> self);
  void Interrupt() override;
  const Duration delay_;
  TaskContext* context_ = nullptr;
  std::coroutine_handle<> self_;
  absl::Status status_;
  std::optional<Timer> timer_;
};

// A condition that tasks wait for. Set() wakes every waiter and stays set until Reset(). Must outlive its waiters.
class Event {
 public:
  Event() = default;
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  ~Event() { TUNNEL_CHECK(waiters_.empty()); }

  void Set();
  void Reset() { set_ = false; }
  [[nodiscard]] bool is_set() const { return set_; }

  class [[nodiscard]] Awaiter final : Waiter, public ListLink<Event> {
   public:
    explicit Awaiter(Event& event) : event_(event) {}
    bool await_ready() { return event_.set_; }
    template <typename Promise>
    bool await_suspend(std::coroutine_handle<Promise> self) {
      return Suspend(self.promise().context(), self);
    }
    absl::Status await_resume() { return std::move(status_); }

   private:
    friend class Event;
    bool Suspend(TaskContext& context, std::coroutine_handle<> self);
    void Interrupt() override;
    Event& event_;
    TaskContext* context_ = nullptr;
    std::coroutine_handle<> self_;
    absl::Status status_;
  };
  // Ok once set, or why the wait was cut short.
  Awaiter Wait() { return Awaiter(*this); }

 private:
  bool set_ = false;
  IntrusiveList<Awaiter, Event> waiters_;
};

}  // namespace tunnel::core
