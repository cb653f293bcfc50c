// The whole program once it knows what to do: listeners, channels, server, and the drain at its end.
#pragma once

#include "core/status.h"
#include "net/config.h"

namespace tunnel::net {

// Runs until a signal ends it (SIGTERM or SIGINT drain; they and SIGHUP must be blocked in the calling thread, see
// core/process.h). Ok after a drain. kInvalidArgument and kNotFound, before anything was served, when a certificate,
// key or other file that `config` names is missing or says something wrong; any other code when the system refused what
// was asked, such as a port in use. The message is one line that names the culprit.
[[nodiscard]] absl::Status RunTunnel(const Config& config);

}  // namespace tunnel::net
