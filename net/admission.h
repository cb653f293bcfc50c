// What the server refuses on its way out, whichever way that is.
#pragma once

#include "core/counters.h"
#include "core/status.h"

namespace tunnel::net {

// ResourceExhausted where kConnectsPerCore are under way; one that is let in is counted in connects_in_progress by who
// asked, for as long as it takes.
[[nodiscard]] absl::Status AdmitConnect(const core::Counters& counters);
// The same for kAssociationsPerCore and associations_open.
[[nodiscard]] absl::Status AdmitAssociation(const core::Counters& counters);
// PermissionDenied: the policy does not allow the target. Counts it.
[[nodiscard]] absl::Status DenyTarget(core::Counters& counters);

}  // namespace tunnel::net
