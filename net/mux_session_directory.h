// Which core keeps a mux/2 session, for the whole process.
#pragma once

#include "core/conn_map.h"
#include "core/reactor.h"
#include "proto/mux_negotiation.h"

namespace tunnel::net {

// Asked once for each channel that is accepted, so that all channels of a session, and with them its streams, are on
// one core, whichever core the kernel gave their connections to. From any core, without a lock.
class MuxSessionDirectory {
 public:
  // For the reactors of `first`'s group, one of which it is; what they share must outlive this.
  explicit MuxSessionDirectory(core::Reactor& first) : map_(first.epoch().domain(), NewKeys(first)) {}

  // The core that keeps `session`: `asking`'s own, from now on, where no other does.
  [[nodiscard]] unsigned Claim(core::Reactor& asking, const proto::MuxSessionId& session) {
    const auto kept = map_.Insert(asking.epoch(), Key(session), {.core = asking.index()});
    return kept.has_value() ? kept->core : asking.index();
  }
  // `keeper`'s core keeps it no longer, if it did.
  void Forget(core::Reactor& keeper, const proto::MuxSessionId& session) {
    // What is of this core, no other takes away meanwhile.
    const auto kept = map_.Find(keeper.epoch(), Key(session));
    if (kept.has_value() && kept->core == keeper.index()) (void)map_.Erase(keeper.epoch(), Key(session), 0);
  }
  // Roughly how many sessions there are. Any thread.
  [[nodiscard]] size_t size() const { return map_.ApproximateSize(); }

 private:
  // Of a session as a whole: no stream has the id 0. The map compares keys only whose hash, keyed by a secret of this
  // process, is the same: its time tells nothing of an id.
  [[nodiscard]] static core::ConnKey Key(const proto::MuxSessionId& session) {
    return core::ConnMap::StreamKey(session.Reveal(), 0);
  }
  [[nodiscard]] static core::ConnMap::Keys NewKeys(core::Reactor& reactor) {
    std::array<uint8_t, 32> random{};
    reactor.FillRandom(random);
    return core::ConnMap::KeysFrom(random);
  }

  core::ConnMap map_;
};

}  // namespace tunnel::net
