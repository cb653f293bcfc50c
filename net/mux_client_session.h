// The client's end of a mux/2 session: opens streams, chooses their channels, and moves them when a channel is lost.
#pragma once

#include <deque>

#include "core/task.h"
#include "net/datagram_opener.h"
#include "net/mux_seen_ids.h"
#include "net/mux_session.h"
#include "proto/mux_negotiation.h"

namespace tunnel::net {

class MuxClientSession;

// Where something is to be opened.
struct MuxRoute {
  MuxClientSession* session = nullptr;
  MuxChannel* channel = nullptr;  // one of its, up; nullptr when there is none
};

class MuxClientSession final : public MuxSession {
 public:
  // The id is made here, at random. Stream ids begin at `first_id`, which is odd.
  MuxClientSession(core::Reactor& reactor, MuxBudget& budget, uint32_t first_id = 1);
  ~MuxClientSession() override;

  [[nodiscard]] const proto::MuxSessionId& id() const { return id_; }
  // Ids are not used again: so few are left that another session is to take over.
  [[nodiscard]] bool nearly_used_up() const { return next_id_ > UINT32_MAX - kSpareIds; }
  // Opens a stream, as StreamOpener::OpenAhead says, on a channel that Choose() has given.
  [[nodiscard]] absl::StatusOr<std::unique_ptr<ByteStream>> OpenAhead(MuxChannel& channel, proto::Target target);
  // Opens a stream, as StreamOpener::Open says, on a channel that Choose() has given. The caller's deadline is its own.
  [[nodiscard]] core::Task<absl::StatusOr<std::unique_ptr<ByteStream>>> Open(MuxChannel& channel, proto::Target target,
                                                                             core::Slice first);
  // A stream of datagrams; its handle is to be taken.
  [[nodiscard]] absl::StatusOr<MuxStream*> OpenDatagrams(MuxChannel& channel);

  // A stream for which the server listens at `address`; its handle is to be taken.
  [[nodiscard]] absl::StatusOr<MuxStream*> OpenListener(MuxChannel& channel, proto::Target address);
  // Called with each stream that the server opens, which is then to be answered, at once or with its handle taken.
  // Without it, or with nullptr, all are refused.
  void SetIncoming(std::function<void(MuxStream&)> incoming) { incoming_ = std::move(incoming); }

  // Moves every stream off `channel`, where there is another one for it.
  void MoveAway(MuxChannel& channel);
  // Streams wait for a channel; and who is called when they have begun to, or ceased.
  [[nodiscard]] bool stranded() const { return stranded_; }
  void SetStranded(std::function<void()> changed) { stranded_changed_ = std::move(changed); }
  // Called when the server wants a channel to be left.
  void SetGoAway(absl::AnyInvocable<void(MuxChannel&)> go_away) { go_away_ = std::move(go_away); }

 private:
  MuxStream* OnOpen(MuxChannel& channel, const proto::MuxFrame& frame) override;
  void OnResume(MuxChannel& channel, const proto::MuxFrame& frame) override;
  void OnGoAway(MuxChannel& channel, const proto::MuxFrame& frame) override;
  void OnAttached(MuxChannel& channel) override;
  void OnDetached() override;
  void OnUnboundChanged() override;

  // Opens a stream without first bytes.
  [[nodiscard]] absl::StatusOr<MuxStream*> OpenEmpty(MuxChannel& channel, proto::MuxKind kind, proto::Target address);
  [[nodiscard]] absl::StatusOr<MuxStream*> NewStream(MuxChannel& channel, proto::MuxKind kind, proto::Target address);

  // Enough for what is opened until another session has its channels.
  static constexpr uint32_t kSpareIds = 1U << 21;
  // The ids of that epoch that its server has used.
  [[nodiscard]] MuxSeenIds& SeenOf(uint64_t epoch);

  proto::MuxSessionId id_;
  uint32_t next_id_;
  bool stranded_ = false;
  std::function<void(MuxStream&)> incoming_;
  struct Seen {
    uint64_t epoch = 0;
    MuxSeenIds ids;
  };
  std::deque<Seen> seen_;  // the last epoch that was new comes first
  std::function<void()> stranded_changed_;
  absl::AnyInvocable<void(MuxChannel&)> go_away_;
};

}  // namespace tunnel::net
