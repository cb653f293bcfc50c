// What a server may connect to.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/socket_address.h"
#include "net/config.h"

namespace tunnel::net {

// Judges the address that is to be dialled, with the name that led to it, so that no spelling of an address and no
// answer of a resolver gets round a rule. In this order: -allow-target by network or port alone allows; -deny-target by
// network denies; what is denied by default is denied (loopback, link-local with the metadata services, unspecified,
// multicast, broadcast, also as they lie inside IPv4-mapped, -compatible and -translated, NAT64 and 6to4 addresses);
// -allow-target by name allows; -deny-target by name or for everything denies; the rest is allowed. Immutable.
class TargetPolicy {
 public:
  TargetPolicy(std::vector<TargetRule> allow, std::vector<TargetRule> deny)
      : allow_(std::move(allow)), deny_(std::move(deny)) {}

  // `host` is what the client asked for, a name or a literal; `address` what it became.
  [[nodiscard]] bool Allows(const std::string& host, const core::SocketAddress& address) const;

  // Whether the Unix socket at `path` may be connected to: only where -allow-target names it, and -deny-target does
  // not.
  [[nodiscard]] bool AllowsUnix(std::string_view path) const;

  // As Allows() where somebody else resolves: an outbound proxy that is given `host`. A literal is judged as the
  // address it is; of a name only the rules by name and port can be asked, and names of loopback (RFC 6761) are denied
  // by default.
  [[nodiscard]] bool AllowsUnresolved(const std::string& host, uint16_t port) const;

 private:
  std::vector<TargetRule> allow_;
  std::vector<TargetRule> deny_;
};

// Whether `address` is one of those denied by default.
[[nodiscard]] bool IsDeniedByDefault(const core::SocketAddress& address);

}  // namespace tunnel::net
