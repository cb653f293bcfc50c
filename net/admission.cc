#include "net/admission.h"

#include "net/limits.h"

namespace tunnel::net {

absl::Status AdmitConnect(const core::Counters& counters) {
  if (counters.connects_in_progress.Get() < kConnectsPerCore) return absl::OkStatus();
  return ResourceExhausted("too many connects in progress");
}

absl::Status AdmitAssociation(const core::Counters& counters) {
  if (counters.associations_open.Get() < kAssociationsPerCore) return absl::OkStatus();
  return ResourceExhausted("too many UDP associations");
}

absl::Status DenyTarget(core::Counters& counters) {
  counters.targets_denied.Add();
  return PermissionDenied("the target is denied (-allow-target and -deny-target decide)");
}

}  // namespace tunnel::net
