// Everything a client asks the DNS about the tunnel server before it dials: the ECHConfigList and the addresses, over
// DoH, so that the server's name is never sent in clear.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/socket_address.h"
#include "core/status.h"
#include "core/task.h"
#include "ech/doh_transport.h"

namespace tunnel::net {

struct ServerQuestion {
  std::string host;  // of the tunnel server: a name, or an IP literal without brackets
  uint16_t port = 443;
  // Whose HTTPS records hold the ECHConfigList. When it is another name than `host` (a CDN's, shared by its customers),
  // only ech= is taken of them; when it is the same, port and target too.
  std::string ech_name;
  bool want_ech = true;
  bool want_addresses = true;
};

// The two halves fail separately: a client may have either from elsewhere.
struct ServerAnswer {
  absl::Status ech_status;
  std::vector<uint8_t> ech_config_list;  // when wanted and ech_status is ok; its own length in front, else unchecked
  uint32_t ech_ttl_seconds = 0;
  absl::Status address_status;
  std::vector<core::SocketAddress> addresses;  // when wanted and address_status is ok; in the order to dial them
  uint32_t address_ttl_seconds = 0;
  uint16_t port = 0;  // to dial: the question's, or the one the HTTPS record says
};

// Looks both up, side by side. The HTTPS records of `_PORT._https.NAME` come before those of NAME when the port is not
// 443 (RFC 9460 section 9.1), and of those of NAME only ech= is taken then; AliasMode and CNAMEs are followed, at most
// kMaxAliases in a row. Of several services the one of the lowest priority that has ech= is taken, by lot among equals;
// its address hints serve when its name has no addresses. Failures say which name lacks what, or which resolver failed
// how. `transport` must outlive the task.
[[nodiscard]] core::Task<ServerAnswer> LookUpServer(ech::DohTransport& transport, ServerQuestion question);

inline constexpr int kMaxAliases = 8;

}  // namespace tunnel::net
