#include "core/reactor.h"

#include <algorithm>

#include "core/log.h"

namespace tunnel::core {

OperationOwner::OperationOwner(Reactor& reactor) : reactor_(reactor) { reactor.owners_.PushBack(*this); }

OperationOwner::~OperationOwner() = default;

void OperationOwner::Orphan() {
  orphaned_ = true;
  DeleteIfDone();
}

void OperationOwner::DeleteIfDone() {
  if (!orphaned_ || doomed_ || !may_be_deleted()) return;
  doomed_ = true;
  reactor_.doomed_.push_back(this);
}

absl::StatusOr<std::unique_ptr<Reactor>> Reactor::Create(const ReactorOptions& options, unsigned index,
                                                         std::string& note) {
  auto buffers = std::make_unique<BufferPool>();
  absl::StatusOr<std::unique_ptr<Backend>> backend = Unavailable("no backend was tried");
  if (options.backend != BackendChoice::kEpoll) {
    backend = MakeUringBackend(*buffers, options.backend_options);
    if (!backend.ok() && options.backend == BackendChoice::kUring) {
      return Annotate(backend.status(), "-backend io_uring");
    }
  }
  if (!backend.ok()) {
    if (options.backend == BackendChoice::kAuto) note = MessageOf(backend.status());
    backend = MakeEpollBackend(*buffers, options.backend_options);
    if (!backend.ok()) return backend.status();
  }
  return std::make_unique<Reactor>(std::move(buffers), *std::move(backend), index, options.congestion_control,
                                   options.epochs);
}

Reactor::Reactor(std::unique_ptr<BufferPool> buffers, std::unique_ptr<Backend> backend, unsigned index,
                 std::string congestion_control, EpochDomain* epochs)
    : index_(index),
      congestion_control_(std::move(congestion_control)),
      own_epochs_(epochs == nullptr ? std::make_unique<EpochDomain>(1) : nullptr),
      epoch_(epochs == nullptr ? *own_epochs_ : *epochs),
      buffers_(std::move(buffers)),
      backend_(std::move(backend)),
      timers_(backend_->Now()) {
  backend_->SetAfterWait([this] {
    epoch_.Quiesce();
    // A timer that a completion sets counts from now, not from when the reactor went to sleep.
    timers_.SetNow(backend_->Now());
  });
  epoch_.Quiesce();
}

Reactor::~Reactor() {
  owners_.ForEach([](OperationOwner& owner) { owner.CancelAll(); });
  for (RunReady(); !owners_.empty(); RunReady()) backend_->Poll(backend_->Now() + std::chrono::milliseconds(100));
  // The backend's buffers are slices of the pool, so it goes first.
  backend_.reset();
}

void Reactor::Run() {
  while (!stop_.load(std::memory_order_acquire)) Turn(kNever);
}

void Reactor::Stop() {
  stop_.store(true, std::memory_order_release);
  Wake();
}

void Reactor::RunReady() {
  // Each round may make more ready; all of it runs before the reactor waits.
  while (!ready_.empty() || !deferred_.empty() || !attention_.empty() || !doomed_.empty()) {
    resuming_.swap(ready_);
    for (const std::coroutine_handle<> handle : resuming_) handle.resume();
    resuming_.clear();
    deferring_.swap(deferred_);
    for (absl::AnyInvocable<void()>& call : deferring_) call();
    deferring_.clear();
    IntrusiveList<Attention, AttentionList> batch;
    batch.Append(attention_);
    while (!batch.empty()) batch.PopFront().Attend();
    while (!doomed_.empty()) {
      OperationOwner* owner = doomed_.back();
      doomed_.pop_back();
      delete owner;
    }
  }
}

void Reactor::PublishGauges() {
  counters_.turns.Add();
  counters_.timers_armed.Set(static_cast<int64_t>(timers_.armed()));
  counters_.buffers_in_use.Set(static_cast<int64_t>(buffers_->blocks_in_use() + backend_->receive_buffers_in_use()));
  counters_.buffer_bytes_in_use.Set(static_cast<int64_t>(buffers_->bytes_in_use()));
}

void Reactor::Turn(TimePoint deadline) {
  timers_.SetNow(backend_->Now());
  if (drain_mailboxes_) drain_mailboxes_();
  RunReady();
  PublishGauges();
  if (stop_.load(std::memory_order_acquire)) deadline = now();
  const TimePoint until = std::min(deadline, timers_.NextDeadline());
  epoch_.GoOffline();
  backend_->Poll(until);
  timers_.Advance(backend_->Now());
}

uint64_t Reactor::RandomU64() {
  std::array<uint8_t, 8> bytes{};
  FillRandom(bytes);
  uint64_t value = 0;
  for (const uint8_t byte : bytes) value = value << 8 | byte;
  return value;
}

Duration Reactor::RandomBelow(Duration limit) {
  if (limit.count() <= 0) return Duration::zero();
  return Duration(static_cast<int64_t>(RandomU64() % static_cast<uint64_t>(limit.count())));
}

}  // namespace tunnel::core
