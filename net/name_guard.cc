#include "net/name_guard.h"

#include <utility>

#include "proto/dns_name.h"

namespace tunnel::net {

bool IsAddress(std::string_view host) { return core::SocketAddress::Parse(host, 0).has_value(); }

bool IsSameHost(const std::string& a, const std::string& b) {
  const absl::StatusOr<std::string> canonical_a = proto::CanonicalDnsName(a);
  const absl::StatusOr<std::string> canonical_b = proto::CanonicalDnsName(b);
  return canonical_a.ok() && canonical_b.ok() && *canonical_a == *canonical_b;
}

core::Task<absl::StatusOr<std::vector<core::SocketAddress>>> NameGuard::Resolve(std::string host, uint16_t port) {
  if (!secret_.empty() && !IsAddress(host) && IsSameHost(host, secret_)) {
    co_return PermissionDenied("{} is the name that ECH hides: it is not looked up in clear", host);
  }
  auto addresses = co_await inner_.Resolve(std::move(host), port);
  co_return std::move(addresses);
}

}  // namespace tunnel::net
