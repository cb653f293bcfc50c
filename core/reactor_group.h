// The process's reactors, one a core, each on a thread of its own, and the mailboxes between them.
#pragma once

#include <absl/functional/any_invocable.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <vector>

#include "core/limits.h"
#include "core/mailbox.h"
#include "core/reactor.h"

namespace tunnel::core {

// What runs on one core. Made, used and destroyed on that core's thread.
class CoreService {
 public:
  virtual ~CoreService() = default;
};

class ReactorGroup {
 public:
  using Message = absl::AnyInvocable<void()>;
  // Makes the service of one core. Calls are one after another, in the order of the cores.
  using MakeService = absl::AnyInvocable<absl::StatusOr<std::unique_ptr<CoreService>>(Reactor& reactor)>;

  // `threads` reactors, the first on the calling thread, pinned to the CPUs this process may use when there is one for
  // each.
  ReactorGroup(ReactorOptions options, unsigned threads);
  ReactorGroup(const ReactorGroup&) = delete;
  ReactorGroup& operator=(const ReactorGroup&) = delete;
  ~ReactorGroup();

  // Starts every reactor and its service, runs until StopAll(), and ends the services and the threads. When a reactor
  // or service cannot be made, returns why, with everything ended.
  [[nodiscard]] absl::Status Run(MakeService make);

  // Ends Run(), also when it has not got to running yet. Any thread.
  void StopAll();
  // Runs `message` on core `to`. From the thread of core `from` only, from when its service is being made. Never lost:
  // over the mailbox's bound it waits at the sender.
  void Post(unsigned from, unsigned to, Message message);
  [[nodiscard]] unsigned size() const { return static_cast<unsigned>(cores_.size()); }
  // What all its reactors take part in: for a ConnMap and the like, which must end before the group does, and after
  // Run() has returned. There is room for kSpareEpochParticipants more. Any thread.
  [[nodiscard]] EpochDomain& epochs() { return epochs_; }
  // The counters of every core that was made. Any thread until Run() ends the cores.
  [[nodiscard]] std::vector<const Counters*> counters() const;

 private:
  struct Core;
  void RunCore(unsigned index, MakeService& make);
  bool DrainMailboxes(unsigned index);
  void FlushOverflow(unsigned from);
  void EndReactor(Core& core);

  EpochDomain epochs_;
  const ReactorOptions options_;
  std::vector<std::unique_ptr<Core>> cores_;
  std::atomic<bool> stopping_{false};
  // Guards when each core's reactor comes and goes, for the calls that any thread may make.
  mutable std::mutex reactors_mutex_;
  struct Start;
  std::unique_ptr<Start> start_;
};

// The CPUs this process may run on: the default number of reactors.
[[nodiscard]] unsigned UsableCores();

}  // namespace tunnel::core
