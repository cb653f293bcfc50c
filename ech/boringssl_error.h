// What BoringSSL's per-thread error queue says, in words.
#pragma once

#include <string>

namespace tunnel::ech {

// Returns the oldest error of this thread's queue as "REASON" (or "no reason given") and empties the queue, so that the
// next call into BoringSSL starts clean.
[[nodiscard]] std::string TakeBoringSslError();

}  // namespace tunnel::ech
