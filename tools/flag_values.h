// The values of flags: text to the parts of net::Config.
//
// Pure functions. Each fails with kInvalidArgument and a clause that quotes what is wrong, without credentials, and
// says what is expected; put after the name of the flag it makes the one line that the user sees.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/status.h"
#include "net/config.h"

namespace tunnel::tools {

// The items of a comma-separated list without the spaces around them. An empty item is an error.
[[nodiscard]] absl::StatusOr<std::vector<std::string_view>> SplitList(std::string_view text);

// A plain decimal number from `least` to `most`.
[[nodiscard]] absl::StatusOr<unsigned> ParseNumber(std::string_view text, unsigned least, unsigned most);

// A time as `24h`, `90m`, `30s` or several of these, the longer before the shorter: `1h30m`; `off` or `0` is none. At
// most ten years.
[[nodiscard]] absl::StatusOr<std::chrono::seconds> ParseDuration(std::string_view text);
// As ParseDuration reads it.
[[nodiscard]] std::string ToString(std::chrono::seconds duration);

// Whether `text` is a domain name in text, without a final dot: labels of 1 to 63 letters, digits, underscores or,
// within, hyphens, 253 bytes at most, and nothing that could be read as an address.
[[nodiscard]] bool IsDomainName(std::string_view text);

[[nodiscard]] std::string LowerCase(std::string_view text);

// `-l`: appends what `text` listens on. The host is an IP address, `localhost` (127.0.0.1) or nothing (0.0.0.0); port 0
// asks the kernel for one. Everywhere `unix:/socket` may stand in the place of host and port; its path goes to the next
// colon: `ws://unix:/run/t.sock:/path`, `proxy://unix:/run/p.sock`, `tcp://unix:/run/a.sock:/host:22`, and as a target
// `tcp://127.0.0.1:22/unix:/run/b.sock`; not in `udp://127.0.0.1:53/9.9.9.9:53`, and as the target only in
// `rtcp://127.0.0.1:22/unix:/run/b.sock`.
[[nodiscard]] absl::Status ParseListen(std::string_view text, std::vector<net::ListenSpec>& listen);

// `-f`: of a client, wss://, sets server_host, server_port (443 when there is none) and server_path; of a server,
// socks5://, sets outbound (port 1080 when there is none).
[[nodiscard]] absl::Status ParseForwardTo(std::string_view text, net::Config& config);

// `-dns`: one resolver; `https://` may be left out, and so may the path (`/dns-query`). Gives the URL in full.
[[nodiscard]] absl::StatusOr<std::string> ParseDohUrl(std::string_view text);

// `-ip`: one address, with or without brackets, port 0; or `unix:/socket`.
[[nodiscard]] absl::StatusOr<core::SocketAddress> ParseAddress(std::string_view text);

// One rule of `-allow-target` or `-deny-target`: `*`, `*.suffix`, a name, an address or a range (IPv6 in brackets:
// `[::1]` or `[fd00::]/8`), with `:port` or `:first-last` behind it for less than every port; or `unix:/socket`.
[[nodiscard]] absl::StatusOr<net::TargetRule> ParseTargetRule(std::string_view text);

// One rule of `-allow-reverse`: an address or a range as above, and always with ports, which may be `*`.
[[nodiscard]] absl::StatusOr<net::TargetRule> ParseReverseRule(std::string_view text);

// The rule as ParseTargetRule reads it.
[[nodiscard]] std::string ToString(const net::TargetRule& rule);

}  // namespace tunnel::tools
