// Kernel constants newer than the distribution's liburing header, and what the running kernel was found to do.
#pragma once

#include <liburing.h>

#include <span>
#include <string>
#include <vector>

namespace tunnel::core {

// What the io_uring backend can use and can do without; each can be switched off by its name.
struct UringFeatures {
  bool single_issuer = true;        // IORING_SETUP_SINGLE_ISSUER | DEFER_TASKRUN (6.1): completions only when we ask
  bool registered_ring = true;      // the ring's descriptor registered: cheaper io_uring_enter
  bool multishot_accept = true;     // 5.19
  bool multishot_receive = true;    // 6.0
  bool multishot_datagrams = true;  // 6.0: datagrams with their sender

  // "single-issuer multishot-accept ...": those in use.
  [[nodiscard]] std::string Describe() const;
};

// The names that switch a feature off, for flag checking and help.
[[nodiscard]] std::span<const char* const> UringFeatureNames();

// Starts from everything less what `disabled` names, and takes away what this kernel is seen to lack by trying it.
// `error` says why when the kernel refuses io_uring altogether (the result is then meaningless).
[[nodiscard]] UringFeatures ProbeUring(const std::vector<std::string>& disabled, std::string& error);

}  // namespace tunnel::core
