// The mux/2 sessions that one core of a server keeps.
#pragma once

#include <absl/container/flat_hash_map.h>

#include <map>
#include <memory>

#include "net/mux_server_session.h"
#include "net/mux_session_directory.h"

namespace tunnel::net {

// A session is made with its first channel, and forgotten when it has been without any for kMuxResumeLimit. Owner core
// only.
class MuxServerSessions {
 public:
  // `directory` is the process's.
  MuxServerSessions(const MuxServerParts& parts, MuxSessionDirectory& directory);
  MuxServerSessions(const MuxServerSessions&) = delete;
  MuxServerSessions& operator=(const MuxServerSessions&) = delete;
  // No channel may be left.
  ~MuxServerSessions();

  // The core on which a channel of `id` belongs; this one where nobody keeps the session.
  [[nodiscard]] unsigned CoreOf(const proto::MuxSessionId& id);
  // The session, on the core that CoreOf() gave; made where it is not there. nullptr when there are too many.
  [[nodiscard]] MuxServerSession* Get(const proto::MuxSessionId& id);
  [[nodiscard]] bool HasLingering() const;
  // Resets the streams of all: the server stops.
  void ResetAll(std::string_view reason);
  // No session listens for its client any more.
  void StopListening();
  // Forgets every session. No channel may be left.
  void Clear();
  [[nodiscard]] size_t size() const { return sessions_.size(); }

 private:
  void Sweep();

  const MuxServerParts parts_;
  MuxSessionDirectory& directory_;
  absl::flat_hash_map<proto::MuxSessionId, MuxServerSession*> by_id_;
  struct Kept {
    proto::MuxSessionId id;
    std::unique_ptr<MuxServerSession> session;
  };
  std::map<uint64_t, Kept> sessions_;  // in the order of their making, and so ended in that order
  uint64_t next_number_ = 0;
  core::Timer sweep_timer_;
};

}  // namespace tunnel::net
