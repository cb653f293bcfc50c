// What can be said about a configuration's files without running it.
#pragma once

#include <string>
#include <vector>

#include "core/status.h"
#include "net/config.h"

namespace tunnel::net {

// Reads and parses the certificate and its key, the ECH keys and the trust anchors that `config` names, as RunTunnel
// would, and changes nothing: what a server would make on its first start is only noted. Returns lines that say what
// was found. Blocking; fails with kInvalidArgument or kNotFound and one line that names the flag and the file.
[[nodiscard]] absl::StatusOr<std::vector<std::string>> CheckFiles(const Config& config);

}  // namespace tunnel::net
