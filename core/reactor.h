// One core's event loop: a backend, timers, buffers, counters, and the tasks and sockets that live on them.
//
// Everything above core/ reaches time, randomness and I/O through a Reactor, and runs on its thread. A turn is: resume
// what became ready, start what was asked for, wait in the backend, deliver completions, run due timers. Once a turn,
// while it waits, it holds no reference into what cores share (core/epoch.h).
#pragma once

#include <absl/functional/any_invocable.h>

#include <atomic>
#include <coroutine>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/backend.h"
#include "core/buffer_pool.h"
#include "core/counters.h"
#include "core/epoch.h"
#include "core/intrusive_list.h"
#include "core/task.h"
#include "core/time.h"
#include "core/timers.h"

namespace tunnel::core {

enum class BackendChoice { kAuto, kUring, kEpoll };

struct ReactorOptions {
  BackendChoice backend = BackendChoice::kAuto;
  BackendOptions backend_options;
  // TCP congestion control set on every socket; empty leaves the system's.
  std::string congestion_control;
  // What the reactor takes part in, and must outlive it; null gives it a domain of its own.
  EpochDomain* epochs = nullptr;
};

// What holds operations that the kernel may still be working on. Its owner lets go by Orphan(); it deletes itself when
// no operation is started any more, so memory the kernel may write to or read from outlives the operation.
// NOLINTNEXTLINE(cppcoreguidelines-virtual-class-destructor): only the reactor, a friend, deletes it
class OperationOwner : public ListLink<Reactor> {
 public:
  OperationOwner(const OperationOwner&) = delete;
  OperationOwner& operator=(const OperationOwner&) = delete;

 protected:
  explicit OperationOwner(Reactor& reactor);
  virtual ~OperationOwner();
  [[nodiscard]] Reactor& reactor() const { return reactor_; }
  [[nodiscard]] bool orphaned() const { return orphaned_; }
  // Nobody refers to this any more: it is deleted once may_be_deleted(), from the reactor's turn and never from inside
  // a call or callback of its own.
  void Orphan();
  // To be called whenever may_be_deleted() may have become true.
  void DeleteIfDone();
  [[nodiscard]] virtual bool may_be_deleted() const = 0;

 private:
  friend class Reactor;
  // The reactor is shutting down: end at once.
  virtual void CancelAll() = 0;
  Reactor& reactor_;
  bool orphaned_ = false;
  bool doomed_ = false;
};

struct AttentionList;

// What wants to be called once before the reactor waits again.
class Attention : public ListLink<AttentionList> {
 public:
  virtual void Attend() = 0;

 protected:
  ~Attention() = default;
};

class Reactor {
 public:
  // Makes a reactor on the calling thread, which must be the one that runs it. With kAuto, io_uring is tried first;
  // `note` receives why it was refused.
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<Reactor>> Create(const ReactorOptions& options, unsigned index,
                                                                       std::string& note);
  Reactor(std::unique_ptr<BufferPool> buffers, std::unique_ptr<Backend> backend, unsigned index,
          std::string congestion_control, EpochDomain* epochs = nullptr);
  Reactor(const Reactor&) = delete;
  Reactor& operator=(const Reactor&) = delete;
  // Waits for every orphaned operation; what is owned by others must be gone.
  ~Reactor();

  // Turns until Stop().
  void Run();
  // Makes Run() return after the current turn. Any thread.
  void Stop();
  // One turn that waits no later than `deadline`; for tests and simulation.
  void Turn(TimePoint deadline);

  [[nodiscard]] unsigned index() const { return index_; }
  [[nodiscard]] TimePoint now() const { return timers_.now(); }
  [[nodiscard]] int64_t WallSeconds() { return backend_->WallSeconds(); }
  [[nodiscard]] Backend& backend() { return *backend_; }
  [[nodiscard]] BufferPool& buffers() { return *buffers_; }
  [[nodiscard]] TimerWheel& timers() { return timers_; }
  [[nodiscard]] Counters& counters() { return counters_; }
  [[nodiscard]] const std::string& congestion_control() const { return congestion_control_; }
  // For structures that cores share. Online whenever code runs on this reactor, offline while it waits.
  [[nodiscard]] EpochParticipant& epoch() { return epoch_; }

  void FillRandom(std::span<uint8_t> out) { backend_->FillRandom(out); }
  [[nodiscard]] uint64_t RandomU64();
  // Evenly distributed in [0, limit); full jitter for back-off.
  [[nodiscard]] Duration RandomBelow(Duration limit);

  // Runs `call` before the reactor waits again. Owner core only.
  void Defer(absl::AnyInvocable<void()> call) { deferred_.push_back(std::move(call)); }
  void ScheduleResume(std::coroutine_handle<> handle) { ready_.push_back(handle); }
  void ScheduleAttention(Attention& attention) {
    if (!attention.linked()) attention_.PushBack(attention);
  }
  // Called at the start of every turn, to take messages from other cores; false when there were none.
  void SetMailboxDrain(absl::AnyInvocable<bool()> drain) { drain_mailboxes_ = std::move(drain); }
  // Makes a waiting reactor turn. Any thread.
  void Wake() { backend_->Wake(); }

 private:
  friend class OperationOwner;
  void RunReady();
  void PublishGauges();

  const unsigned index_;
  const std::string congestion_control_;
  const std::unique_ptr<EpochDomain> own_epochs_;  // when none was given
  EpochParticipant epoch_;
  std::unique_ptr<BufferPool> buffers_;
  std::unique_ptr<Backend> backend_;
  TimerWheel timers_;
  Counters counters_;
  std::vector<std::coroutine_handle<>> ready_;
  std::vector<std::coroutine_handle<>> resuming_;
  std::vector<absl::AnyInvocable<void()>> deferred_;
  std::vector<absl::AnyInvocable<void()>> deferring_;
  IntrusiveList<Attention, AttentionList> attention_;
  IntrusiveList<OperationOwner, Reactor> owners_;
  std::vector<OperationOwner*> doomed_;
  absl::AnyInvocable<bool()> drain_mailboxes_;
  std::atomic<bool> stop_{false};
};

}  // namespace tunnel::core
