// The client's end of UDP on mux/2: an application's association is one stream, whatever the number of its targets.
#pragma once

#include <absl/functional/any_invocable.h>

#include <functional>
#include <memory>

#include "net/datagram_opener.h"
#include "net/mux_client_session.h"

namespace tunnel::net {

// The stream is opened when a datagram is first sent, so that an association that is not used costs the server nothing,
// and again when it was lost. The server resolves names; it does not say what became of a target.
class MuxDatagrams final : public DatagramAssociation, MuxStream::Watcher {
 public:
  // `choose` gives the channel to open on, nullptr when none is up.
  using Choose = std::function<MuxRoute()>;
  MuxDatagrams(core::Reactor& reactor, Choose choose, Handler& handler)
      : reactor_(reactor),
        choose_(std::move(choose)),
        handler_(handler),
        idle_timer_(reactor.timers(), [this] { OnIdle(); }) {}
  ~MuxDatagrams() override { Close(); }

  void Send(const proto::Target& to, core::Slice payload) override;
  // Nothing is found out about targets ahead of use.
  void Prepare(const proto::Target& target) override { (void)target; }

 private:
  void OnOpened(const absl::Status& status) override;
  void OnCarried(const proto::Target& address, core::Slice payload) override;
  void OnGone(const absl::Status& reason) override;
  void OnIdle();
  void Close();

  core::Reactor& reactor_;
  const Choose choose_;
  Handler& handler_;
  MuxStream* stream_ = nullptr;         // while there is one
  std::unique_ptr<ByteStream> handle_;  // keeps it
  // After a refusal nothing is asked again for a while, however much is sent.
  core::TimePoint refused_until_{};
  core::TimePoint last_used_{};
  core::Timer idle_timer_;
};

}  // namespace tunnel::net
