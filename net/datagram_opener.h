// How datagrams get through the tunnel, or out of it, whatever carries them: one association of an application, any
// number of targets.
//
// A listener opens associations on the client's side; the server opens them towards targets, directly or through
// another proxy. Nothing here waits or queues without bound: what cannot go on at once is dropped and counted
// (datagrams_dropped), as UDP may.
#pragma once

#include <memory>

#include "core/slice.h"
#include "core/status.h"
#include "proto/target.h"

namespace tunnel::net {

// Destroying it ends the association; no callback follows. One reactor's thread.
class DatagramAssociation {
 public:
  // Called from the reactor's turn, never from inside a call on the association, which may be destroyed from each.
  class Handler {
   public:
    // One datagram, perhaps empty. `from` is who sent it, an address where that is known; it is valid during the call.
    virtual void OnDatagram(const proto::Target& from, core::Slice payload) = 0;
    // Whether `target` can be sent to, each time that was found out: after Prepare() and after the first Send() to it.
    // Where it cannot, what waited for it is dropped, and what is sent to it soon after is too.
    virtual void OnTarget(const proto::Target& target, const absl::Status& status) {
      (void)target;
      (void)status;
    }
    // The association is over. The last call.
    virtual void OnDead(const absl::Status& reason) = 0;

   protected:
    ~Handler() = default;
  };

  DatagramAssociation() = default;
  DatagramAssociation(const DatagramAssociation&) = delete;
  DatagramAssociation& operator=(const DatagramAssociation&) = delete;
  virtual ~DatagramAssociation() = default;

  // Sends one datagram or drops it. A target is forgotten when nothing passed for a while, or when there are too many
  // of them, and found out about again when it is sent to next.
  virtual void Send(const proto::Target& to, core::Slice payload) = 0;
  // Finds out about `target` without sending anything.
  virtual void Prepare(const proto::Target& target) = 0;
};

// Whose datagrams an association passes on (RFC 4787 section 5): anybody's, or only those of targets it sends to. The
// legacy protocol can only do the latter.
enum class SenderFilter { kAnySender, kTargetsOnly };

class DatagramOpener {
 public:
  // `handler` must outlive the association. Fails with kResourceExhausted when there are too many.
  [[nodiscard]] virtual absl::StatusOr<std::unique_ptr<DatagramAssociation>> Open(DatagramAssociation::Handler& handler,
                                                                                  SenderFilter filter) = 0;

 protected:
  ~DatagramOpener() = default;
};

}  // namespace tunnel::net
