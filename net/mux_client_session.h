// The client's end of a mux/2 session: opens streams, chooses their channels, and moves them when a channel is lost.
#pragma once

#include "core/task.h"
#include "net/datagram_opener.h"
#include "net/mux_session.h"
#include "proto/mux_negotiation.h"

namespace tunnel::net {

class MuxClientSession final : public MuxSession {
 public:
  // The id is made here, at random.
  MuxClientSession(core::Reactor& reactor, MuxBudget& budget);
  ~MuxClientSession() override;

  [[nodiscard]] const proto::MuxSessionId& id() const { return id_; }
  // The channel for what is opened now: the least expected delay, and of those that differ by little the one with the
  // fewest streams. nullptr when none is up.
  [[nodiscard]] MuxChannel* Choose() const;

  // Opens a stream, as StreamOpener::OpenAhead says, on a channel that Choose() has given.
  [[nodiscard]] absl::StatusOr<std::unique_ptr<ByteStream>> OpenAhead(MuxChannel& channel, proto::Target target);
  // Opens a stream, as StreamOpener::Open says, on a channel that Choose() has given. The caller's deadline is its own.
  [[nodiscard]] core::Task<absl::StatusOr<std::unique_ptr<ByteStream>>> Open(MuxChannel& channel, proto::Target target,
                                                                             core::Slice first);
  // A stream of datagrams; its handle is to be taken.
  [[nodiscard]] absl::StatusOr<MuxStream*> OpenDatagrams(MuxChannel& channel);

  // Moves every stream off `channel`, where there is another one for it.
  void MoveAway(MuxChannel& channel);
  // Called when streams have begun, or ceased, to wait for a channel.
  void SetStranded(std::function<void(bool stranded)> stranded) { tell_stranded_ = std::move(stranded); }
  // Called when the server wants a channel to be left.
  void SetGoAway(absl::AnyInvocable<void(MuxChannel&)> go_away) { go_away_ = std::move(go_away); }

 private:
  MuxStream* OnOpen(MuxChannel& channel, const proto::MuxFrame& frame) override;
  void OnResume(MuxChannel& channel, const proto::MuxFrame& frame) override;
  void OnGoAway(MuxChannel& channel, const proto::MuxFrame& frame) override;
  void OnAttached(MuxChannel& channel) override;
  void OnDetached() override;
  void OnUnboundChanged() override;

  // The same, for a stream of `epoch`, which no other channels can carry.
  [[nodiscard]] MuxChannel* ChooseFor(std::optional<uint64_t> epoch) const;
  [[nodiscard]] absl::StatusOr<MuxStream*> NewStream(MuxChannel& channel, proto::MuxKind kind, proto::Target address);

  proto::MuxSessionId id_;
  uint32_t next_id_ = 1;
  bool stranded_ = false;
  std::function<void(bool)> tell_stranded_;
  absl::AnyInvocable<void(MuxChannel&)> go_away_;
};

}  // namespace tunnel::net
