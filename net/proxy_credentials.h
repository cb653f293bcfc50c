// What an application has to say to be let through a proxy listener.
#pragma once

#include <string_view>

#include "net/config.h"
#include "proto/http1.h"

namespace tunnel::net {

// Whether both are the listener's. Takes the same time whichever of them is wrong.
[[nodiscard]] bool MatchesCredentials(const ListenSpec& spec, std::string_view user, std::string_view password);

// Whether a request has what the listener asks for, by Proxy-Authorization with the scheme Basic (RFC 7617), once.
[[nodiscard]] bool IsAuthorized(const ListenSpec& spec, const proto::RequestHead& head);

}  // namespace tunnel::net
