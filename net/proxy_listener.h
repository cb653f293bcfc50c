// The client's proxy:// listener: SOCKS4, SOCKS4a, SOCKS5 and HTTP on one port, told apart by the first byte.
#pragma once

#include "core/stream_socket.h"
#include "core/task.h"
#include "net/config.h"
#include "net/relay.h"
#include "net/stream_opener.h"
#include "net/udp_associate.h"

namespace tunnel::net {

// One connection of an application, from accept to its relay or, for forwarded HTTP, to its end. All but `socket` must
// outlive the task.
[[nodiscard]] core::Task<void> ServeProxy(core::Reactor& reactor, core::StreamSocket socket, const ListenSpec& spec,
                                          StreamOpener& opener, RelaySet& relays, UdpAssociateSet& associations);

}  // namespace tunnel::net
