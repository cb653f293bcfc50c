// Injects faults into a simulated run, by the dice.
#pragma once

#include <array>
#include <optional>
#include <vector>

#include "core/sim_world.h"
#include "net/mux_faults.h"

namespace tunnel::simulation {

struct Places {
  core::SimHost applications{};
  core::SimHost client{};
  core::SimHost server{};
  core::SimHost targets{};
};

enum class Plant : uint8_t {
  kNone,
  kLoseChunk,     // a piece that was received is dropped
  kRepeatChunk,   // or given twice
  kLoseEnd,       // the end of a stream is never told
  kDropRetained,  // MuxBug::kDropRetained
  kSkipCredit,    // MuxBug::kSkipCredit
};

// Bugs in the sessions themselves: how often is up to who arms them, where is up to the code.
class SessionBugs final : public net::MuxBugs {
 public:
  // While there is one, it is what the process's sessions ask.
  explicit SessionBugs(core::SimWorld& world) : world_(world) { net::planted_mux_bugs = this; }
  SessionBugs(const SessionBugs&) = delete;
  SessionBugs& operator=(const SessionBugs&) = delete;
  ~SessionBugs() { net::planted_mux_bugs = nullptr; }

  // The next place where `bug` can happen, it does.
  void Arm(net::MuxBug bug) { armed_ = bug; }
  void Disarm() { armed_.reset(); }
  [[nodiscard]] bool Strikes(net::MuxBug bug) override;

 private:
  core::SimWorld& world_;
  std::optional<net::MuxBug> armed_;
};

struct Sabotage {
  core::Duration every{};   // so often a fault that is no failing call, on average
  uint32_t call_fails = 0;  // per million calls
  core::SimFaultSet kinds;
};

// The first connection of client and server is cut when the client (0) or the server (1) has sent so many bytes.
struct ChannelCut {
  int from = 0;
  uint64_t bytes = 0;
};

class Saboteur {
 public:
  // All must outlive it.
  Saboteur(core::SimWorld& world, const Places& places, const std::vector<core::Reactor*>& reactors, uint64_t seed)
      : world_(world), places_(places), reactors_(reactors), random_(seed) {}
  Saboteur(const Saboteur&) = delete;
  Saboteur& operator=(const Saboteur&) = delete;

  // From now on.
  void Start(const Sabotage& sabotage);
  // One fault at a chosen place instead: the calls of client and server are counted from here.
  void FailCall(uint64_t number);
  void CutFirstChannel(const ChannelCut& cut);
  // A connection still brought the client signs of life and took nothing any more to the server, who finds that out
  // after two intervals of PINGs: longer than an opening waits. On a network a TCP that hears no acknowledgements would
  // soon have brought nothing more either.
  [[nodiscard]] bool froze_towards_server() const { return froze_towards_server_; }
  // No further ones; what they did is undone, but for connections that are frozen for ever.
  void Stop();
  // Plants bugs as often as that, until Stop().
  void StartPlanting(Plant plant, core::Duration every);

 private:
  struct Way {
    core::SimFault kind;
    uint32_t weight;
    void (Saboteur::*act)();
  };
  static const std::array<Way, 8> kWays;

  void Schedule();
  void SchedulePlant();
  void PlantOne();
  void Act();
  // A connection between `one` and `other`; 0 when there is none.
  [[nodiscard]] uint64_t Pick(core::SimHost one, core::SimHost other);
  [[nodiscard]] uint64_t PickAny();
  [[nodiscard]] core::Reactor& PickReactor() { return *reactors_[random_.Below(reactors_.size())]; }
  [[nodiscard]] core::Duration Between(core::Duration low, core::Duration high);
  void CutOne();
  void CutOneAtAByte();
  void FreezeOne();
  void FreezeServer();
  void TakeDescriptors();
  void TakeBuffers();
  void StallOne();
  void JumpAhead();

  core::SimWorld& world_;
  const Places places_;
  const std::vector<core::Reactor*>& reactors_;
  core::SimRandom random_;
  bool active_ = false;
  bool froze_towards_server_ = false;
  Sabotage sabotage_;
  SessionBugs bugs_{world_};
  Plant plant_ = Plant::kNone;
  core::Duration plant_every_{};
};

}  // namespace tunnel::simulation
