// What a ConnMap does to one key, one call at a time: what recorded histories are compared with.
#pragma once

#include <compare>
#include <optional>

#include "core/conn_map.h"
#include "linearizability.h"

namespace tunnel::core::testing {

struct ConnMapCall {
  enum class Kind { kInsert, kFind, kUpdate, kErase };
  Kind kind = Kind::kFind;
  ConnPlace place;                 // inserted, or put in place of what was there; kErase: its generation
  std::optional<ConnPlace> found;  // what kInsert and kFind returned
  ConnChange change{};             // what kUpdate and kErase returned
};

// The model of one key.
struct ConnMapModel {
  bool present = false;
  uint64_t handle = 0;
  uint32_t core = 0;
  uint32_t generation = 0;

  auto operator<=>(const ConnMapModel&) const = default;

  [[nodiscard]] std::optional<ConnPlace> place() const {
    if (!present) return std::nullopt;
    return ConnPlace{.handle = handle, .core = core, .generation = generation};
  }
  void Put(const ConnPlace& new_place) {
    *this = {.present = true, .handle = new_place.handle, .core = new_place.core, .generation = new_place.generation};
  }
  bool Apply(const ConnMapCall& call) {
    using Kind = ConnMapCall::Kind;
    const std::optional<ConnPlace> before = place();
    switch (call.kind) {
      case Kind::kInsert:
        if (!present) Put(call.place);
        return call.found == before;
      case Kind::kFind:
        return call.found == before;
      case Kind::kUpdate:
      case Kind::kErase: {
        const bool good =
            call.kind == Kind::kUpdate ? call.place.generation > generation : call.place.generation == generation;
        const ConnChange change = !present ? ConnChange::kAbsent : good ? ConnChange::kDone : ConnChange::kStale;
        if (change == ConnChange::kDone && call.kind == Kind::kUpdate) Put(call.place);
        if (change == ConnChange::kDone && call.kind == Kind::kErase) *this = {};
        return call.change == change;
      }
    }
    return false;
  }
};

}  // namespace tunnel::core::testing
