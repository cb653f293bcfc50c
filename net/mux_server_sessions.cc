#include "net/mux_server_sessions.h"

#include <algorithm>

#include "net/limits.h"

namespace tunnel::net {

MuxServerSessions::MuxServerSessions(const MuxServerParts& parts, MuxSessionDirectory& directory)
    : parts_(parts), directory_(directory), sweep_timer_(parts.reactor.timers(), [this] { Sweep(); }) {}

MuxServerSessions::~MuxServerSessions() { Clear(); }

void MuxServerSessions::Clear() {
  sweep_timer_.Cancel();
  for (const auto& [number, kept] : sessions_) directory_.Forget(parts_.reactor, kept.id);
  by_id_.clear();
  sessions_.clear();
}

unsigned MuxServerSessions::CoreOf(const proto::MuxSessionId& id) { return directory_.Claim(parts_.reactor, id); }

MuxServerSession* MuxServerSessions::Get(const proto::MuxSessionId& id) {
  if (const auto found = by_id_.find(id); found != by_id_.end()) return found->second;
  if (sessions_.size() >= kMuxSessionsPerCore) {
    directory_.Forget(parts_.reactor, id);
    return nullptr;
  }
  // It may have been forgotten, and claimed by another core, since this one was asked for it: then there are two, with
  // epochs that tell them apart.
  (void)directory_.Claim(parts_.reactor, id);
  auto session = std::make_unique<MuxServerSession>(parts_, parts_.reactor.RandomU64());
  MuxServerSession* made = session.get();
  by_id_.emplace(id, made);
  sessions_.emplace(next_number_++, Kept{.id = id, .session = std::move(session)});
  if (!sweep_timer_.armed()) sweep_timer_.SetAfter(kMuxResumeLimit);
  return made;
}

bool MuxServerSessions::HasLingering() const {
  return std::any_of(sessions_.begin(), sessions_.end(),
                     [](const auto& entry) { return entry.second.session->HasLingering(); });
}

void MuxServerSessions::ResetAll(std::string_view reason) {
  for (const auto& [number, kept] : sessions_) kept.session->ResetAll(reason);
}

void MuxServerSessions::StopListening() {
  for (const auto& [number, kept] : sessions_) kept.session->StopListening();
}

void MuxServerSessions::Sweep() {
  const core::TimePoint now = parts_.reactor.now();
  core::TimePoint next = core::kNever;
  std::erase_if(sessions_, [&](const auto& entry) {
    const Kept& kept = entry.second;
    const core::TimePoint alone = kept.session->alone_since();
    // One with a channel is looked at again when it could be over at the earliest.
    const core::TimePoint until = (alone == core::kNever ? now : alone) + kMuxResumeLimit;
    if (until > now) {
      next = std::min(next, until);
      return false;
    }
    directory_.Forget(parts_.reactor, kept.id);
    by_id_.erase(kept.id);
    return true;
  });
  if (next != core::kNever) sweep_timer_.SetAt(next);
}

}  // namespace tunnel::net
