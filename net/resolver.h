// How names become addresses: an interface, so that tests and the simulation need no DNS.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/socket_address.h"
#include "core/status.h"
#include "core/task.h"

namespace tunnel::net {

class Resolver {
 public:
  // The addresses of `host` with `port`, in the order to try them (OrderForDialling), at least one. An IP literal
  // (without brackets) is its own address and nothing is asked. NotFound when the name does not exist or has no
  // addresses, Unavailable when nobody could be asked, or why the task was interrupted. Any number of calls may
  // overlap; the resolver must outlive them.
  [[nodiscard]] virtual core::Task<absl::StatusOr<std::vector<core::SocketAddress>>> Resolve(std::string host,
                                                                                             uint16_t port) = 0;

 protected:
  ~Resolver() = default;
};

// Sorts for ConnectRace: IPv6 first, then the families alternate (RFC 8305 section 4, a First Address Family Count of
// 1). Within a family the order stays; addresses that were there before are dropped.
[[nodiscard]] std::vector<core::SocketAddress> OrderForDialling(const std::vector<core::SocketAddress>& addresses);

}  // namespace tunnel::net
