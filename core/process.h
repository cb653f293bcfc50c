// What the process as a whole needs from the system: its limits and its signals.
#pragma once

#include <absl/functional/any_invocable.h>

#include <cstdint>
#include <initializer_list>
#include <memory>

#include "core/descriptor_watch.h"
#include "core/reactor.h"

namespace tunnel::core {

// Raises the soft limit of open files to the hard one. Returns the limit now in force.
uint64_t RaiseOpenFilesLimit();

// Seconds since 1970, for what carries dates and is made before a reactor runs. Any thread.
int64_t WallSeconds();

// Blocks `signals` in this thread and those it makes, so that they are only seen through a SignalWatch; ignores
// SIGPIPE. Before any thread is made.
void BlockSignals(std::initializer_list<int> signals);

// Calls `received` with the number of each of `signals` that arrives, from the reactor's turn.
class SignalWatch {
 public:
  SignalWatch(Reactor& reactor, std::initializer_list<int> signals, absl::AnyInvocable<void(int signal)> received);
  ~SignalWatch();

 private:
  void Read();
  int descriptor_;
  absl::AnyInvocable<void(int)> received_;
  std::unique_ptr<DescriptorWatch> watch_;
};

}  // namespace tunnel::core
