// The client's rtcp:// listeners: the server listens, and each of its connections comes here as a stream that is
// connected to a local target.
#pragma once

#include <memory>
#include <vector>

#include "core/task.h"
#include "net/config.h"
#include "net/mux_client_session.h"
#include "net/relay.h"
#include "net/target_connector.h"

namespace tunnel::net {

// The reverse forwards of one core, on its session. Each is asked for when a channel of mux/2 is up, and again, with
// back-off, when it was refused or lost; at once where the server is another process than before. Owner core only.
class ReverseForwards {
 public:
  // All must outlive this, and `scope` must have been joined before; streams that were accepted are relayed in `relays`
  // and outlive it. `resolver` finds the targets.
  ReverseForwards(core::Reactor& reactor, MuxClientSession& session, Resolver& resolver, RelaySet& relays,
                  core::Scope& scope);
  ReverseForwards(const ReverseForwards&) = delete;
  ReverseForwards& operator=(const ReverseForwards&) = delete;
  ~ReverseForwards();

  // `spec` must outlive this. Before the first channel is up.
  void Add(const ListenSpec& spec);
  // Goes on in `session`, which must outlive this too: the one before has used up its ids.
  void MoveTo(MuxClientSession& session);
  // Channels went up or down; `only_legacy`: there are some, and none speaks mux/2.
  void OnChannelsChanged(bool only_legacy);
  // Nothing is listened for any more; what was accepted goes on.
  void Stop();

 private:
  class Forward;
  // A stream that came before the OPENED of the listener it may belong to.
  struct Waiting {
    MuxStream* stream = nullptr;
    std::unique_ptr<ByteStream> handle;  // keeps it
  };

  // A stream that the server opened.
  void OnIncoming(MuxStream& stream);
  // The forward that listens at `address`, or nullptr.
  [[nodiscard]] const Forward* Find(const proto::Target& address) const;
  // Whether a forward that has no answer yet may come to listen there.
  [[nodiscard]] bool MayBecome(const proto::Target& address) const;
  void Connect(const Forward& forward, MuxStream& stream, std::unique_ptr<ByteStream> handle);
  // A forward has its answer.
  void SettleWaiting();

  core::Reactor& reactor_;
  MuxClientSession* session_;
  std::vector<MuxClientSession*> sessions_;  // this one, and those before: streams may still come of them
  RelaySet& relays_;
  core::Scope& scope_;
  std::vector<std::unique_ptr<Forward>> forwards_;
  std::vector<Waiting> waiting_;
  // The targets are the operator's own: whatever they are, they are allowed.
  TargetPolicy policy_;
  Resolver& resolver_;
  std::unique_ptr<TargetConnector> connector_;
  // Connects under way; theirs too, since they may outlive this.
  const std::shared_ptr<size_t> connecting_ = std::make_shared<size_t>(0);
  bool stopped_ = false;
  bool legacy_said_ = false;
};

}  // namespace tunnel::net
