// The client's tcp:// listeners: every connection goes to one target.
#pragma once

#include "core/stream_socket.h"
#include "core/task.h"
#include "net/config.h"
#include "net/relay.h"
#include "net/stream_opener.h"

namespace tunnel::net {

// One connection of an application, from accept to its relay. `spec` is the listener's; all but `socket` must outlive
// the task. Never waits for the application to speak first.
[[nodiscard]] core::Task<void> ServeForward(core::Reactor& reactor, core::StreamSocket socket, const ListenSpec& spec,
                                            StreamOpener& opener, RelaySet& relays);

}  // namespace tunnel::net
