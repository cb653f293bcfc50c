#include "net/target_policy.h"

#include <algorithm>
#include <array>
#include <span>
#include <string_view>

#include "core/check.h"

namespace tunnel::net {
namespace {

using proto::Cidr;
using proto::IpAddress;

Cidr MustParse(std::string_view text) {
  auto parsed = proto::ParseCidr(text);
  TUNNEL_CHECK(parsed.ok());
  return *parsed;
}

const std::vector<Cidr>& DeniedNetworks() {
  static const std::vector<Cidr>* const networks = [] {
    auto* list = new std::vector<Cidr>;
    for (const std::string_view text : {"0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4",
                                        "::/128", "::1/128", "fe80::/10", "ff00::/8"}) {
      list->push_back(MustParse(text));
    }
    return list;
  }();
  return *networks;
}

IpAddress AddressOf(const core::SocketAddress& address) {
  return proto::Unmapped(IpAddress::V6(address.mapped_bytes()));
}

// The IPv4 address that an IPv6 one leads to through a translator or a relay. The address itself otherwise.
IpAddress Translated(const IpAddress& address) {
  if (!address.v6) return address;
  // Those that end in it. IPv4-compatible ones (RFC 4291 section 2.5.5.1), the prefix of stateless translation
  // (RFC 2765 section 2.1), the well-known one of NAT64 (RFC 6052), the local-use one (RFC 8215) in its usual length.
  static const std::array<Cidr, 4> kEndsInIpv4 = {MustParse("::/96"), MustParse("::ffff:0:0:0/96"),
                                                  MustParse("64:ff9b::/96"), MustParse("64:ff9b:1::/48")};
  static const Cidr k6To4 = MustParse("2002::/16");  // RFC 3056
  static const std::array<Cidr, 2> kIpv6Own = {MustParse("::/128"), MustParse("::1/128")};
  const auto contains = [&](const Cidr& network) { return network.Contains(address); };
  if (std::any_of(kIpv6Own.begin(), kIpv6Own.end(), contains)) return address;
  const std::span<const uint8_t, 16> bytes(address.bytes);
  if (std::any_of(kEndsInIpv4.begin(), kEndsInIpv4.end(), contains)) return IpAddress::V4(bytes.last<4>());
  if (k6To4.Contains(address)) return IpAddress::V4(bytes.subspan<2, 4>());
  return address;
}

bool InPorts(const TargetRule& rule, uint16_t port) { return rule.first_port <= port && port <= rule.last_port; }

bool MatchesName(const TargetRule& rule, const std::string& host) {
  if (rule.kind == TargetRule::Kind::kName) return host == rule.name;
  if (rule.kind != TargetRule::Kind::kSuffix) return false;
  return host.size() > rule.name.size() + 1 && host.ends_with(rule.name) &&
         host[host.size() - rule.name.size() - 1] == '.';
}

// A name as rules spell it: lower case, without the final dot of a fully qualified one.
std::string Canonical(std::string host) {
  std::transform(host.begin(), host.end(), host.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c; });
  if (host.size() > 1 && host.back() == '.') host.pop_back();
  return host;
}

bool IsLoopbackName(const std::string& name) { return name == "localhost" || name.ends_with(".localhost"); }

}  // namespace

bool IsDeniedByDefault(const core::SocketAddress& address) {
  const IpAddress own = AddressOf(address);
  const IpAddress translated = Translated(own);
  return std::any_of(DeniedNetworks().begin(), DeniedNetworks().end(),
                     [&](const Cidr& network) { return network.Contains(own) || network.Contains(translated); });
}

bool TargetPolicy::Allows(const std::string& host, const core::SocketAddress& address) const {
  const std::string name = Canonical(host);
  const IpAddress own = AddressOf(address);
  const IpAddress translated = Translated(own);
  const uint16_t port = address.port();
  const auto network = [&](const TargetRule& rule) {
    return rule.kind == TargetRule::Kind::kNetwork && InPorts(rule, port) &&
           (rule.network.Contains(own) || rule.network.Contains(translated));
  };
  const auto any = [&](const TargetRule& rule) { return rule.kind == TargetRule::Kind::kAny && InPorts(rule, port); };
  const auto named = [&](const TargetRule& rule) { return InPorts(rule, port) && MatchesName(rule, name); };

  if (std::any_of(allow_.begin(), allow_.end(), [&](const TargetRule& r) { return network(r) || any(r); })) return true;
  if (std::any_of(deny_.begin(), deny_.end(), network)) return false;
  if (IsDeniedByDefault(address)) return false;
  if (std::any_of(allow_.begin(), allow_.end(), named)) return true;
  return std::none_of(deny_.begin(), deny_.end(), [&](const TargetRule& r) { return named(r) || any(r); });
}

bool TargetPolicy::AllowsUnix(std::string_view path) const {
  const auto named = [&](const TargetRule& rule) { return rule.kind == TargetRule::Kind::kUnix && rule.name == path; };
  return std::any_of(allow_.begin(), allow_.end(), named) && std::none_of(deny_.begin(), deny_.end(), named);
}

bool TargetPolicy::AllowsUnresolved(const std::string& host, uint16_t port) const {
  if (const auto literal = core::SocketAddress::Parse(host, port)) return Allows(host, *literal);
  const std::string name = Canonical(host);
  const auto matches = [&](const TargetRule& rule) {
    return InPorts(rule, port) && (rule.kind == TargetRule::Kind::kAny || MatchesName(rule, name));
  };
  if (std::any_of(allow_.begin(), allow_.end(), matches)) return true;
  return !IsLoopbackName(name) && std::none_of(deny_.begin(), deny_.end(), matches);
}

}  // namespace tunnel::net
