// What a socket operation can end with. errno is translated once, here, so that nothing above core/ sees a number.
#pragma once

#include <string_view>

#include "core/status.h"

namespace tunnel::core {

enum class IoError {
  kOk = 0,
  kCancelled,           // we asked for it
  kNotFound,            // ENOENT, ENOTDIR: no such file, of a Unix socket
  kRefused,             // ECONNREFUSED: nobody listens there
  kUnreachable,         // EHOSTUNREACH, EHOSTDOWN: no way to this host
  kNetworkUnreachable,  // ENETUNREACH, ENETDOWN, EADDRNOTAVAIL: no way there from here
  kTimedOut,            // ETIMEDOUT: the kernel gave up
  kReset,               // ECONNRESET, EPIPE, ECONNABORTED, ENOTCONN: the peer is gone
  kAddressInUse,        // EADDRINUSE
  kDenied,              // EACCES, EPERM: a privilege or a firewall
  kNoDescriptors,       // EMFILE, ENFILE: raise the limit of open files
  kNoMemory,            // ENOMEM, ENOBUFS
  kUnsupported,         // EAFNOSUPPORT, EOPNOTSUPP, ...: the kernel lacks it
  kOther,               // anything else, logged with its number where it is translated
};

// Translates a positive errno value. EAGAIN and EINTR must have been handled by the caller.
[[nodiscard]] IoError FromErrno(int error_number);

// A few words for a log line: "connection refused".
[[nodiscard]] std::string_view ToString(IoError error);

// The status for `error` with a message "WHAT: words"; Ok for kOk. It remembers `error`, also when it is annotated.
[[nodiscard]] absl::Status ToStatus(IoError error, std::string_view what);

// What ToStatus made `status` from; kOk when it did not.
[[nodiscard]] IoError IoErrorOf(const absl::Status& status);

}  // namespace tunnel::core
