// Work that blocks, off the reactor: files, mostly. One thread of its own, which is made when it is first needed.
#pragma once

#include <absl/functional/any_invocable.h>

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>

#include "core/descriptor_watch.h"
#include "core/reactor.h"

namespace tunnel::core {

// Owner core only, but for what is said to run on the worker's thread.
class Worker {
 public:
  explicit Worker(Reactor& reactor);
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;
  // Does all the work that was asked for, and waits for it: what is to be written is written. What was to be done then
  // is dropped. May be called from what is done.
  ~Worker();

  // Runs `work` on the worker's thread, after what was asked for before, then `done` from the reactor's turn. `work`
  // must not refer to what another thread may change meanwhile; what it says to `done` goes through what both hold.
  void Run(absl::AnyInvocable<void()> work, absl::AnyInvocable<void()> done);

 private:
  struct Job {
    absl::AnyInvocable<void()> work;
    absl::AnyInvocable<void()> done;
  };
  void Start();
  void Work();
  void Collect();

  Reactor& reactor_;
  int event_ = -1;  // an eventfd, readable when something is done
  std::unique_ptr<DescriptorWatch> watch_;
  std::thread thread_;
  bool* destroyed_ = nullptr;  // set by the destructor while a callback is running
  std::mutex mutex_;
  std::condition_variable asked_;
  bool stopping_ = false;    // guarded by mutex_
  std::deque<Job> waiting_;  // guarded by mutex_
  std::deque<Job> done_;     // guarded by mutex_
};

}  // namespace tunnel::core
