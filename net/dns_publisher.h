// -serve-dns: the server answers DNS questions about its own names, so that it needs no DNS provider for its ECH keys.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/socket_address.h"
#include "proto/dns_message.h"

namespace tunnel::net {

// How long answers may be kept: short enough that a new ECH key is known soon.
inline constexpr uint32_t kPublishedTtlSeconds = 300;

// Answers for its names and nothing else: it asks nobody, so it cannot be made an open resolver, and an answer is about
// as long as the ECHConfigList. Immutable; any thread.
class DnsPublisher {
 public:
  // `names`: the server's own; what is no domain name (an address, a wildcard of a certificate) is left out.
  explicit DnsPublisher(const std::vector<std::string>& names);

  // The response to `query`, one DNS message:
  // - HTTPS of a name: priority 1, target ".", alpn http/1.1, the port when it is not 443, `ech_config_list` when it is
  //   not empty, and `local` as address hint. The port is that of `local`; in `_PORT._https.NAME` (RFC 9460 section
  //   9.1) it is that PORT: where the client reaches us may be forwarded from elsewhere;
  // - A or AAAA of a name: `local`, the address the query arrived on, when it is of that family;
  // - anything else of a name: no records, NOERROR;
  // - another name: REFUSED. Not one well-formed standard query: FORMERR. EDNS of a later version: BADVERS.
  [[nodiscard]] std::vector<uint8_t> Answer(std::span<const uint8_t> query, const core::SocketAddress& local,
                                            std::string_view ech_config_list) const;

  // The names answered for, in canonical form.
  [[nodiscard]] const std::vector<std::string>& names() const { return names_; }

 private:
  [[nodiscard]] bool IsOwn(std::string_view name) const;

  std::vector<std::string> names_;
};

}  // namespace tunnel::net
