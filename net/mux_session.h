// A mux/2 session (docs/wire-native.md): streams that outlive the channels which carry them. What client and server
// have in common; mux_client_session.h and mux_server_session.h are the two ends.
//
// A session lives on one core, with all its channels. It owns its streams; channels belong to who dialled or accepted
// them, and attach while they are up. Owner core only.
#pragma once

#include <absl/container/flat_hash_map.h>

#include <functional>
#include <memory>
#include <vector>

#include "net/mux_stream.h"
#include "proto/mux_frame.h"

namespace tunnel::net {

class MuxChannel;

class MuxSession {
 public:
  MuxSession(core::Reactor& reactor, proto::Role role, MuxBudget& budget);
  MuxSession(const MuxSession&) = delete;
  MuxSession& operator=(const MuxSession&) = delete;
  // No channel may be attached. Streams that are left end.
  virtual ~MuxSession();

  [[nodiscard]] core::Reactor& reactor() const { return reactor_; }
  [[nodiscard]] proto::Role role() const { return role_; }
  [[nodiscard]] MuxBudget& budget() const { return budget_; }
  [[nodiscard]] size_t streams() const { return streams_.size(); }
  // The channel for what is opened now: the least expected delay, and of those that differ by little the one with the
  // fewest streams. nullptr when none is up, or, with `epoch`, none of that.
  [[nodiscard]] MuxChannel* Choose(std::optional<uint64_t> epoch = std::nullopt) const;
  // Those that are up.
  [[nodiscard]] const std::vector<MuxChannel*>& channels() const { return channels_; }
  // Since when there is no channel; kNever while there is one.
  [[nodiscard]] core::TimePoint alone_since() const { return alone_since_; }

  // Whether streams that nobody holds any more still have bytes on their way; and who is told when none has.
  [[nodiscard]] bool HasLingering() const { return !lingering_.empty(); }
  void SetSettled(std::function<void()> settled) { settled_ = std::move(settled); }
  // Resets every stream, and says so to the peer, because this process stops.
  void ResetAll(std::string_view reason);

  // --- for channels ---
  // A channel is up, and before it receives anything.
  void Attach(MuxChannel& channel);
  // It is gone, or given up: its streams wait, or move.
  void Detach(MuxChannel& channel, const absl::Status& reason);
  // Something came on a channel; and how often that was so.
  void OnSign() { ++signs_; }
  [[nodiscard]] uint64_t signs() const { return signs_; }
  // Asks the other channels for a sign of life.
  void ProbeOthers(const MuxChannel& channel);
  [[nodiscard]] MuxStream* Find(uint32_t stream);
  // Frames that no stream can take by itself. OnOpen returns where the frame's first bytes go, or nullptr.
  [[nodiscard]] virtual MuxStream* OnOpen(MuxChannel& channel, const proto::MuxFrame& frame) = 0;
  virtual void OnResume(MuxChannel& channel, const proto::MuxFrame& frame) = 0;
  virtual void OnGoAway(MuxChannel& channel, const proto::MuxFrame& frame) = 0;

  // --- for streams ---
  // The stream is over; its handle, if it has one, keeps it. Called by the stream.
  void Forget(MuxStream& stream);
  void OweCredit(MuxStream& stream);
  void Linger(MuxStream& stream);
  // Sends a frame of a stream where it belongs, or, of one without a channel, on any of its epoch that is up.
  void SendAnywhere(const proto::MuxFrame& frame);
  // The stream is bound to no channel from now on.
  void AddUnbound(MuxStream& stream);

 protected:
  MuxStream& MakeStream(uint32_t id, proto::MuxKind kind, bool ours, proto::Target address, uint64_t peer_limit);
  // A channel came; one went, whose streams are unbound now.
  virtual void OnAttached(MuxChannel& channel) = 0;
  virtual void OnDetached() = 0;
  // Streams began to wait for a channel, or found one, or ended; after all of them have.
  virtual void OnUnboundChanged() {}
  [[nodiscard]] bool HasUnbound() const { return !unbound_.empty(); }
  // Ends every stream and lets go of it: for the destructor of who still can be called.
  void EndAll(const absl::Status& reason);
  // Calls `visit` on every stream without a channel; it may bind the one it is called with.
  template <typename Visit>
  void ForEachUnbound(Visit visit) {
    unbound_.ForEach(visit);
  }

 private:
  // The streams there are, in the order of their making: a hash table's own would differ from run to run.
  [[nodiscard]] std::vector<uint32_t> IdsInOrder() const;
  void SendCredits();
  void Sweep();
  void ArmSweep();

  core::Reactor& reactor_;
  const proto::Role role_;
  MuxBudget& budget_;
  absl::flat_hash_map<uint32_t, std::unique_ptr<MuxStream>> streams_;
  std::vector<MuxChannel*> channels_;
  core::TimePoint alone_since_;
  uint64_t signs_ = 0;
  core::IntrusiveList<MuxStream, MuxBoundList> unbound_;
  core::IntrusiveList<MuxStream, MuxCreditList> credits_;
  core::IntrusiveList<MuxStream, MuxLingerList> lingering_;
  std::function<void()> settled_;
  core::Timer credit_timer_;
  core::Timer sweep_timer_;
};

}  // namespace tunnel::net
