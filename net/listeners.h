// The client's local listeners: tcp:// forwards and proxy:// with SOCKS5 and HTTP CONNECT told apart by the first byte.
#pragma once

#include <memory>

#include "core/listener.h"
#include "core/task.h"
#include "net/config.h"
#include "net/relay.h"
#include "net/stream_opener.h"
#include "net/udp_associate.h"

namespace tunnel::net {

// One connection of an application, from accept to its relay. `spec` is the listener's; all but `socket` must outlive
// the task. Never waits for the application to speak first on a forward.
[[nodiscard]] core::Task<void> ServeForward(core::Reactor& reactor, core::StreamSocket socket, const ListenSpec& spec,
                                            StreamOpener& opener, RelaySet& relays);
[[nodiscard]] core::Task<void> ServeProxy(core::Reactor& reactor, core::StreamSocket socket, const ListenSpec& spec,
                                          StreamOpener& opener, RelaySet& relays, UdpAssociateSet& associations);

}  // namespace tunnel::net
