// Ids of legacy streams that tests tell apart by a number.
#pragma once

#include <fmt/format.h>

#include <string>

#include "proto/legacy.h"

namespace tunnel::net {

inline std::string IdText(int number) { return fmt::format("{:08}-0000-4000-8000-000000000000", number); }
inline proto::ConnectionId Id(int number) { return *proto::ConnectionId::Parse(IdText(number)); }

}  // namespace tunnel::net
