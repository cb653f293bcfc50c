// What OPENED and RESET say of a stream that is none, as a status of ours, and the other way round.
#pragma once

#include <cstdint>

#include "core/status.h"
#include "proto/mux_frame.h"

namespace tunnel::net {

// The status of OPENED for an attempt that failed: a SOCKS5 reply code.
[[nodiscard]] uint8_t MuxStatusOf(const absl::Status& failure);

// The failure that OPENED's status stands for; it is not 0. Reads like one of StreamOpener::Open.
[[nodiscard]] absl::Status FailureOf(uint8_t mux_status);

// Why the peer reset a stream.
[[nodiscard]] absl::Status StatusOfReset(uint32_t code, std::string_view reason);

}  // namespace tunnel::net
