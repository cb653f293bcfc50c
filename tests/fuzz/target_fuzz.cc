// Addresses, ranges, targets and URLs: whatever is accepted is printed and read back as the same value.
#include <cstdint>
#include <string>
#include <string_view>

#include "core/check.h"
#include "proto/ip_address.h"
#include "proto/target.h"
#include "proto/url.h"

using namespace tunnel::proto;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);

  const auto target = ParseTarget(text, PortRule::kMayBeZero);
  if (target.ok()) {
    TUNNEL_CHECK(ToString(*target) == text);
    TUNNEL_CHECK(IsValidHost(target->host));
    TUNNEL_CHECK(ParseTarget(text).ok() == (target->port != 0));
    // None of what separates fields in our protocols.
    TUNNEL_CHECK(target->host.find_first_of("|/@[]% \r\n\t") == std::string::npos);
  }
  if (const auto split = SplitHostPort(text)) {
    TUNNEL_CHECK(IsValidHost(split->host));
    TUNNEL_CHECK(!split->port || (target.ok() && target->host == split->host && target->port == *split->port));
  }

  if (IsUnixTarget(text)) {
    TUNNEL_CHECK(!IsValidHost(text) && !target.ok() && UnixPathOf(text).starts_with('/'));
    TUNNEL_CHECK(ToString(Target{.host = std::string(text), .port = 0}) == text);
  }

  if (const auto address = ParseIpAddress(text)) {
    TUNNEL_CHECK(ParseIpAddress(ToString(*address)) == address);
    TUNNEL_CHECK(IsValidHost(text));
    TUNNEL_CHECK(ParseCidr(text)->Contains(*address));
    TUNNEL_CHECK(ParseCidr(text)->Contains(Unmapped(*address)));
  }
  if (const auto cidr = ParseCidr(text); cidr.ok()) {
    TUNNEL_CHECK(*ParseCidr(ToString(*cidr)) == *cidr);
    TUNNEL_CHECK(cidr->Contains(cidr->address) || Unmapped(cidr->address) != cidr->address);
  }

  if (auto url = ParseUrl(text, {"ws", "wss", "https", "socks5", "tcp", "proxy"}, PortRule::kMayBeZero); url.ok()) {
    if (url->credentials) TUNNEL_CHECK(WithoutCredentials(text).starts_with(text.substr(0, text.find("://"))));
    url->credentials.reset();
    const auto again = ParseUrl(ToString(*url), {url->scheme}, PortRule::kMayBeZero);
    TUNNEL_CHECK(again.ok() && *again == *url);
  }
  return 0;
}
