// Keeps a name away from resolvers that ask in clear.
#pragma once

#include <string>
#include <string_view>

#include "net/resolver.h"

namespace tunnel::net {

// Whether the two are one name, however they are spelled.
[[nodiscard]] bool IsSameHost(const std::string& a, const std::string& b);
// An IPv4 or IPv6 literal, without brackets.
[[nodiscard]] bool IsAddress(std::string_view host);

// A resolver that refuses one name, and hands every other on.
class NameGuard final : public Resolver {
 public:
  // `inner` must outlive it. An empty `secret`, or an address, guards nothing.
  NameGuard(Resolver& inner, std::string secret) : inner_(inner), secret_(std::move(secret)) {}
  // kPermissionDenied for the name.
  [[nodiscard]] core::Task<absl::StatusOr<std::vector<core::SocketAddress>>> Resolve(std::string host,
                                                                                     uint16_t port) override;

 private:
  Resolver& inner_;
  const std::string secret_;
};

}  // namespace tunnel::net
