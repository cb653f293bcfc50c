#include "core/worker.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cstdint>
#include <utility>

#include "core/check.h"

namespace tunnel::core {

Worker::Worker(Reactor& reactor) : reactor_(reactor) {}

Worker::~Worker() {
  if (destroyed_ != nullptr) *destroyed_ = true;
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  asked_.notify_one();
  thread_.join();
  watch_.reset();
  close(event_);
}

void Worker::Run(absl::AnyInvocable<void()> work, absl::AnyInvocable<void()> done) {
  if (!thread_.joinable()) Start();
  {
    const std::lock_guard lock(mutex_);
    waiting_.push_back({std::move(work), std::move(done)});
  }
  asked_.notify_one();
}

void Worker::Start() {
  event_ = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  TUNNEL_CHECK(event_ >= 0);
  watch_ = std::make_unique<DescriptorWatch>(reactor_, event_, [this](uint32_t) { Collect(); });
  watch_->Watch(EPOLLIN);
  thread_ = std::thread([this] { Work(); });
}

void Worker::Work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    asked_.wait(lock, [this] { return stopping_ || !waiting_.empty(); });
    if (waiting_.empty()) return;
    Job job = std::move(waiting_.front());
    waiting_.pop_front();
    lock.unlock();
    job.work();
    job.work = nullptr;
    lock.lock();
    done_.push_back(std::move(job));
    const uint64_t one = 1;
    // Full is as good as written: the reactor has been told.
    (void)!write(event_, &one, sizeof(one));
  }
}

void Worker::Collect() {
  uint64_t count = 0;
  (void)!read(event_, &count, sizeof(count));
  std::deque<Job> done;
  {
    const std::lock_guard lock(mutex_);
    done.swap(done_);
  }
  bool destroyed = false;
  destroyed_ = &destroyed;
  for (Job& job : done) {
    job.done();
    if (destroyed) return;
  }
  destroyed_ = nullptr;
}

}  // namespace tunnel::core
