// The program between its command line and its end.
#pragma once

#include <absl/functional/any_invocable.h>

#include "core/status.h"
#include "net/config.h"

namespace tunnel::net {

// Runs what `config` says on this thread and those it makes, until a signal ends it (SIGTERM, SIGINT: drain; a second
// one: at once). Signals must be blocked already (core::BlockSignals). Fails, before anything was served, with
// kInvalidArgument or kNotFound when a file, key, certificate or ECHConfigList is not what it must be, with another
// code when the system refuses (a port in use).
[[nodiscard]] absl::Status RunTunnel(const Config& config, absl::AnyInvocable<void()> prepared);

}  // namespace tunnel::net
