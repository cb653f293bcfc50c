// What both ends of a mux/2 session do with a stream that the peer opened.
#pragma once

#include <memory>

#include "core/task.h"
#include "net/mux_stream.h"
#include "net/relay.h"
#include "net/target_connector.h"

namespace tunnel::net {

// Where nothing is bound that would say something to the peer.
[[nodiscard]] const proto::Target& Nowhere();

// Connects to `target`, answers the OPEN of `stream`, and relays; `handle` is the stream's, and `connecting` counts
// those that are under way. Owned by its coroutine, so that whatever ends first ends it all: the stream may be over at
// any time. `connector` and `relays` must outlive the task.
[[nodiscard]] core::Task<void> ConnectAndAnswer(core::Reactor& reactor, TargetConnector& connector, RelaySet& relays,
                                                proto::Target target, MuxStream& stream,
                                                std::unique_ptr<ByteStream> handle, std::shared_ptr<size_t> connecting);

}  // namespace tunnel::net
