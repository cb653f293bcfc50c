// The server's end of a stream of kind listen: a socket that listens for a client of mux/2.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "core/listener.h"
#include "net/config.h"
#include "net/mux_stream.h"

namespace tunnel::net {

// Whether the rules of -allow-reverse permit a client to have `address` listened on. Port 0 leaves the port to the
// kernel, and so is permitted where every port is.
[[nodiscard]] bool AllowsReverse(const std::vector<TargetRule>& rules, const core::SocketAddress& address);

// Listens from Open() until it is destroyed. Owner core only.
class MuxListener final : MuxStream::Watcher {
 public:
  class Owner {
   public:
    // Whether a connection could be passed on now; while it could not, connections wait in the kernel's queue.
    [[nodiscard]] virtual bool HasRoom() const = 0;
    // A connection came; `address` is where it came to, as OPENED said.
    virtual void OnConnection(const proto::Target& address, core::StreamSocket socket) = 0;
    // The stream of the listener is over. The listener is to be destroyed, and not from inside this call.
    virtual void OnListenerGone(uint32_t stream) = 0;

   protected:
    ~Owner() = default;
  };

  // `stream` is new; its handle is taken.
  MuxListener(core::Reactor& reactor, Owner& owner, MuxStream& stream);
  ~MuxListener();

  // Listens where the stream's address says, if `rules` permit it; gives where that is. Fails with what OPENED is to
  // say. Once.
  [[nodiscard]] absl::StatusOr<proto::Target> Open(const std::vector<TargetRule>& rules);
  // There may be more room than before, or less.
  void CheckRoom();
  // Accepts nothing more, and tells the client why.
  void Stop(std::string_view reason);

 private:
  void OnAccepted(core::StreamSocket socket);
  void OnOpened(const absl::Status& status) override { OnGone(status); }
  void OnCarried(const proto::Target& address, core::Slice payload) override;
  void OnGone(const absl::Status& reason) override;

  core::Reactor& reactor_;
  Owner& owner_;
  MuxStream& stream_;
  std::unique_ptr<ByteStream> handle_;  // keeps the stream; destroying it resets it
  core::Listener listener_;
  proto::Target bound_;
  core::Timer room_timer_;
};

}  // namespace tunnel::net
