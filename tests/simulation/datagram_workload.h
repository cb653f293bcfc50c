// The UDP of one simulated run: its associations, its targets, and what must be true of them at the end.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/sim_world.h"
#include "core/task.h"
#include "datagram_parties.h"

namespace tunnel::simulation {

class DatagramWorkload {
 public:
  // All must outlive it; `scope` is the applications'.
  DatagramWorkload(core::SimWorld& world, core::Reactor& applications, core::Reactor& targets, core::Scope& scope,
                   const std::vector<DatagramPlan>& plans);
  DatagramWorkload(const DatagramWorkload&) = delete;
  DatagramWorkload& operator=(const DatagramWorkload&) = delete;

  // Each association begins when its plan says.
  void Start();
  // One more, which sends until it is answered.
  void StartProbe();
  // What began is over.
  [[nodiscard]] bool quiet() const;
  void LeaveAll();

  // What must be. UDP may lose what it likes, but says so: `dropped` is what the program counted.
  struct Circumstances {
    bool faults = false;
    int64_t dropped = 0;
    uint32_t copies = 1;  // of one datagram that may reach a target
  };
  // A line for each rule that is broken.
  [[nodiscard]] std::vector<std::string> Check(const Circumstances& circumstances) const;
  [[nodiscard]] uint64_t datagrams_sent() const;
  [[nodiscard]] uint64_t datagrams_answered() const;
  [[nodiscard]] uint64_t bytes() const;
  [[nodiscard]] std::string DescribePlans() const;

 private:
  struct Ends {
    DatagramPlan plan;
    bool probe = false;
    bool dialled = false;
    bool dial_over = false;
    std::unique_ptr<DatagramParty> party;
  };
  static core::Task<void> DialAndBegin(DatagramWorkload* workload, Ends* ends);
  void Dial(Ends& ends);

  core::SimWorld& world_;
  core::Reactor& applications_;
  core::Scope& scope_;
  std::vector<std::unique_ptr<Ends>> all_;
  std::vector<std::unique_ptr<DatagramTarget>> targets_;
};

}  // namespace tunnel::simulation
