// A world for reactors without a kernel: virtual time, a network in memory, randomness from one seed. One seed, one
// history.
//
// Any number of reactors (cores of any number of hosts) run in it on one thread: Run() turns them one at a time in a
// seeded order, and moves the clock only when none has anything to do. A reactor may also be turned by itself, as tests
// do: waiting in its Poll() then moves the clock for everybody.
#pragma once

#include <absl/functional/any_invocable.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "core/reactor.h"
#include "core/sim_faults.h"
#include "core/sim_network.h"
#include "core/sim_random.h"
#include "core/sim_trace.h"
#include "core/time.h"

namespace tunnel::core {

class SimBackend;

struct SimOptions {
  uint64_t seed = 1;
  SimChaos chaos;
  // Bytes one direction of a connection takes before its sender has to wait.
  size_t stream_buffer_bytes = size_t{2560} * 1024;
  // Of every reactor; see core/limits.h for the real ones.
  unsigned receive_buffers = 32;
  size_t receive_buffer_bytes = size_t{64} * 1024;
  // What a turn of Run() costs the clock at most.
  Duration turn_cost{};
  size_t trace_lines = 4000;
};

class SimWorld {
 public:
  explicit SimWorld(const SimOptions& options);
  SimWorld(const SimWorld&) = delete;
  SimWorld& operator=(const SimWorld&) = delete;
  // Its reactors must be gone.
  ~SimWorld();

  // A reactor of `host`. Must be destroyed before the world, whose reactors share one domain of epochs; at most
  // kMaxReactors at a time.
  static constexpr unsigned kMaxReactors = 16;
  [[nodiscard]] std::unique_ptr<Reactor> MakeReactor(SimHost host, unsigned index);

  enum class Ended {
    kDone,
    kLimit,  // the time is up
    kSpins,  // the clock stands still however much is turned: a bug
  };
  // Turns reactors and lets time pass until `done`, which is asked after every step. Each reactor has a turn first; who
  // gives one something to do from outside its turns later (from `done`, or from a call of At()) wakes it.
  [[nodiscard]] Ended Run(const std::function<bool()>& done, TimePoint limit);

  // --- time and events ---
  [[nodiscard]] TimePoint now() const { return now_; }
  [[nodiscard]] TimePoint start() const;
  [[nodiscard]] int64_t wall_seconds() const;
  // Calls `call` when the clock has reached `when`, in the order of the calls to At() where times are the same.
  void At(TimePoint when, absl::AnyInvocable<void()> call);
  void After(Duration delay, absl::AnyInvocable<void()> call) { At(now_ + delay, std::move(call)); }
  // Calls what is due.
  void RunDue();
  // Lets time pass up to the next event, at most to `limit`, and calls what is due then. For a Poll() that waits.
  void Advance(TimePoint limit);
  // Is inside Run(), so that nobody else may move the clock.
  [[nodiscard]] bool running() const { return running_; }

  // --- faults of the machine ---
  // The clock goes ahead and nobody was there: a suspended machine.
  void Jump(Duration by);
  // This reactor's core is busy with something else.
  void Stall(const Reactor& reactor, Duration by);
  // So many receive buffers, until nullopt.
  void LimitBuffers(const Reactor& reactor, std::optional<unsigned> buffers);

  [[nodiscard]] const SimOptions& options() const { return options_; }
  [[nodiscard]] SimChaos& chaos() { return options_.chaos; }
  [[nodiscard]] SimNetwork& network() { return *network_; }
  [[nodiscard]] const SimNetwork& network() const { return *network_; }
  [[nodiscard]] const SimTrace& trace() const { return trace_; }
  [[nodiscard]] const SimFaultCounts& faults() const { return faults_; }
  void Trace(SimEvent event, uint64_t subject, uint64_t first, uint64_t second) {
    trace_.Add(now_, event, subject, first, second);
  }
  // Counts a fault.
  void Count(SimFault fault) { faults_.Add(fault); }
  // For whom nothing else is meant: the network, the order of turns.
  [[nodiscard]] SimRandom& random() { return random_; }
  // The errno with which this call of `host` is to fail, or 0.
  [[nodiscard]] int DrawFailure(SimFault call, SimHost host);
  // How often it was asked that on such hosts.
  [[nodiscard]] uint64_t calls() const { return calls_; }

 private:
  friend class SimBackend;
  struct Event {
    TimePoint when;
    uint64_t order;
    absl::AnyInvocable<void()> call;
  };
  struct Later {
    bool operator()(const Event& a, const Event& b) const {
      return a.when != b.when ? a.when > b.when : a.order > b.order;
    }
  };
  [[nodiscard]] SimBackend& BackendOf(const Reactor& reactor) const;

  SimOptions options_;
  SimRandom random_;
  SimRandom fault_random_;
  SimTrace trace_;
  SimFaultCounts faults_;
  uint64_t calls_ = 0;
  TimePoint now_;
  bool running_ = false;
  std::vector<Event> events_;  // a heap
  uint64_t orders_ = 0;
  std::unique_ptr<SimNetwork> network_;
  std::vector<SimBackend*> backends_;  // in the order they were made
  unsigned backends_made_ = 0;
  EpochDomain epochs_{kMaxReactors};
};

}  // namespace tunnel::core
