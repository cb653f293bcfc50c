// The server's end of a mux/2 session: requests become connections to targets, and stay while their channels come and
// go.
#pragma once

#include <functional>
#include <map>
#include <memory>

#include "core/task.h"
#include "net/datagram_opener.h"
#include "net/mux_listener.h"
#include "net/mux_seen_ids.h"
#include "net/mux_session.h"
#include "net/relay.h"
#include "net/target_connector.h"

namespace tunnel::net {

// What every session of a core is given. All outlive the sessions, and connects in progress, which run in `scope`,
// outlive them too.
struct MuxServerParts {
  core::Reactor& reactor;
  MuxBudget& budget;
  TargetConnector& connector;
  DatagramOpener& datagrams;
  RelaySet& relays;
  core::Scope& scope;
  // Called when a session's last lingering stream is gone.
  std::function<void()> settled;
  // -allow-reverse: where clients may have the server listen; nullptr is nowhere.
  const std::vector<TargetRule>* allow_reverse = nullptr;
};

class MuxServerSession final : public MuxSession, MuxListener::Owner {
 public:
  // `epoch` tells this session from those that other processes, and this one later, have for the same id.
  MuxServerSession(const MuxServerParts& parts, uint64_t epoch);
  ~MuxServerSession() override;

  [[nodiscard]] uint64_t epoch() const { return epoch_; }
  // Listens for its client no more; what was accepted goes on.
  void StopListening();

 private:
  class Association;

  MuxStream* OnOpen(MuxChannel& channel, const proto::MuxFrame& frame) override;
  void OnResume(MuxChannel& channel, const proto::MuxFrame& frame) override;
  void OnGoAway(MuxChannel& channel, const proto::MuxFrame& frame) override;
  void OnAttached(MuxChannel& channel) override;
  void OnDetached() override;
  // --- for listeners ---
  [[nodiscard]] bool HasRoom() const override;
  void OnConnection(const proto::Target& address, core::StreamSocket socket) override;
  void OnListenerGone(uint32_t stream) override;

  // Ok, or why no further stream is taken now.
  [[nodiscard]] absl::Status Admit();
  void Accept(MuxStream& stream);
  void EndAssociation(uint32_t stream);
  // Destroys what is held for a stream, outside of the call on it that is running.
  template <typename Held>
  void LetGo(std::map<uint32_t, std::unique_ptr<Held>>& of, uint32_t stream);
  void Listen(MuxStream& stream);

  const MuxServerParts parts_;
  const uint64_t epoch_;
  MuxSeenIds seen_;
  // Of the connects that this session has under way; theirs too, since they may outlive it.
  const std::shared_ptr<size_t> connecting_ = std::make_shared<size_t>(0);
  std::map<uint32_t, std::unique_ptr<Association>> associations_;  // of datagrams, by their stream
  std::map<uint32_t, std::unique_ptr<MuxListener>> listeners_;     // by their stream
  bool stopped_listening_ = false;
  uint32_t next_id_ = 0;  // of the streams that this side opens; 0 before the first
  // OPENs that may come at once, and when they were counted.
  double open_tokens_;
  core::TimePoint tokens_at_;
};

}  // namespace tunnel::net
