// The HTTP side of the proxy listener: CONNECT, and requests in absolute form that are forwarded (RFC 9110, RFC 9112).
#pragma once

#include <deque>
#include <memory>

#include "core/task.h"
#include "net/byte_stream.h"
#include "net/config.h"
#include "net/relay.h"
#include "net/stream_opener.h"

namespace tunnel::net {

// What a connection of the HTTP proxy works with; all of it must outlive the task.
struct HttpProxyContext {
  core::Reactor& reactor;
  const ListenSpec& spec;
  StreamOpener& opener;
  RelaySet& relays;
};

// Serves the requests of one connection, one after another, until it ends or becomes a relay (CONNECT, 101). `received`
// is what came so far; `ended` says that the client's end of stream came behind it.
//
// Each request goes to the authority it names. The stream to an origin is kept for the next request to the same one; a
// kept stream that turns out to be dead is replaced where the request may be sent twice, and otherwise the client's
// connection is closed without an answer, which is what it would have seen of the origin itself. Bodies go both ways at
// once, at any length, with the memory of one send queue. A head that two readers could understand differently is
// answered with 400 and the connection closed.
[[nodiscard]] core::Task<void> ServeHttpProxy(HttpProxyContext context, std::unique_ptr<ByteStream> client,
                                              std::deque<core::Slice> received, bool ended);

}  // namespace tunnel::net
