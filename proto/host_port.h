// The one splitter of `host[:port]` under targets, URLs and HTTP authorities, with the reason of a refusal.
#pragma once

#include <string_view>

#include "proto/target.h"

namespace tunnel::proto {

enum class HostPortError { kNone, kHost, kBrackets, kPort };

// As SplitHostPort of target.h, under `rule`. `out` views `text`; it means nothing unless kNone is returned.
[[nodiscard]] HostPortError SplitHostPort(std::string_view text, PortRule rule, HostPort& out);

// What is expected where `error` was found, as a clause for an error message.
std::string_view Describe(HostPortError error);

}  // namespace tunnel::proto
