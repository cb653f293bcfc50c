#include "net/forward_listener.h"

#include <memory>

#include "core/log.h"
#include "net/tcp_stream.h"

namespace tunnel::net {

core::Task<void> ServeForward(core::Reactor& reactor, core::StreamSocket socket, const ListenSpec& spec,
                              StreamOpener& opener, RelaySet& relays) {
  auto stream = std::make_unique<TcpStream>(std::move(socket));
  const core::CountGuard counted(reactor.counters().handshakes_in_progress);
  auto opened = co_await opener.OpenAhead(spec.target);
  if (!opened.ok()) {
    spdlog::debug("{}: {}", spec.description, MessageOf(opened.status()));
    stream->Abort();
    co_return;
  }
  relays.Start(*std::move(opened), std::move(stream));
}

}  // namespace tunnel::net
