// What `ech-tunnel check` does: goes the way of a client's dial step by step, with the same parts, and notes at each
// what was found and how long it took.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/reactor.h"
#include "core/task.h"
#include "net/config.h"

namespace tunnel::net {

// In the order in which they are taken.
enum class CheckStepId : uint8_t {
  kDoh,          // asking the resolvers
  kRecord,       // the HTTPS record in their answer
  kEchConfig,    // the ECHConfigList in it, or of -ech-config
  kAddress,      // where the server is
  kTcp,          // connecting
  kTls,          // the handshake as such
  kEch,          // whether ECH was accepted with that list
  kCertificate,  // whether the server is who it should be
  kUpgrade,      // path, token, WebSocket
  kProtocol,     // mux/2 or the legacy protocol
  kRoundTrip,    // over the channel
};
inline constexpr size_t kCheckSteps = static_cast<size_t>(CheckStepId::kRoundTrip) + 1;

// "doh", "record", "ech-config" and so on.
[[nodiscard]] std::string_view NameOf(CheckStepId step);

enum class CheckOutcome : uint8_t { kOk, kFailed, kSkipped };

struct CheckStep {
  CheckStepId id = CheckStepId::kDoh;
  CheckOutcome outcome = CheckOutcome::kOk;
  core::Duration took{};
  std::string summary;  // one line: what was found, what went wrong, or why there was nothing to do
  std::vector<std::pair<std::string, std::string>> details;  // what each is and what it says; names may repeat
};

// Takes the steps until one fails behind which there is nothing to go on with: those after it are not in the result. A
// server that rejects the list and gives another one fails kEch, and is then looked at with that. `config` is a
// client's; -state is neither read nor written. Fails as a whole only when the configuration cannot be used.
[[nodiscard]] core::Task<absl::StatusOr<std::vector<CheckStep>>> CheckServer(core::Reactor& reactor,
                                                                             const Config& config);

// CheckServer on a reactor of its own on this thread. SIGINT and SIGTERM, which must be blocked, end it: kCancelled.
[[nodiscard]] absl::StatusOr<std::vector<CheckStep>> RunServerCheck(const Config& config);

}  // namespace tunnel::net
