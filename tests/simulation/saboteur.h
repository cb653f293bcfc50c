// Injects faults into a simulated run, by the dice.
#pragma once

#include <vector>

#include "core/sim_world.h"

namespace tunnel::simulation {

struct Places {
  core::SimHost applications{};
  core::SimHost client{};
  core::SimHost server{};
  core::SimHost targets{};
};

enum class Plant : uint8_t {
  kNone,
  kLoseChunk,    // a piece that was received is dropped
  kRepeatChunk,  // or given twice
  kLoseEnd,      // the end of a stream is never told
};

class Saboteur {
 public:
  // All must outlive it.
  Saboteur(core::SimWorld& world, const Places& places, const std::vector<core::Reactor*>& reactors, uint64_t seed)
      : world_(world), places_(places), reactors_(reactors), random_(seed) {}
  Saboteur(const Saboteur&) = delete;
  Saboteur& operator=(const Saboteur&) = delete;

  // From now on faults, on average `every` so often, and calls that fail `call_fails` per million.
  void Start(core::Duration every, uint32_t call_fails);
  // No further ones; what they did is undone, but for connections that are frozen for ever.
  void Stop();
  // Plants bugs as often as that, until Stop().
  void StartPlanting(Plant plant, core::Duration every);

 private:
  void Schedule();
  void SchedulePlant();
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
  void Squeeze();

  core::SimWorld& world_;
  const Places places_;
  const std::vector<core::Reactor*>& reactors_;
  core::SimRandom random_;
  bool active_ = false;
  core::Duration every_{};
  Plant plant_ = Plant::kNone;
  core::Duration plant_every_{};
};

}  // namespace tunnel::simulation
