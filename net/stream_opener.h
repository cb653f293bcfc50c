// How a listener gets a stream through the tunnel, whatever protocol carries it.
#pragma once

#include <memory>

#include "core/task.h"
#include "net/byte_stream.h"
#include "proto/target.h"

namespace tunnel::net {

class StreamOpener {
 public:
  // Opens a stream to `target`; `first` (may be empty) are its first bytes. Ends within kOpenLimit: with the stream
  // once the target is connected, or with what became of it: kUnavailable (the target; core::IoErrorOf says more where
  // the channel's protocol does), kNotFound (no such name), kPermissionDenied, kDeadlineExceeded, kAborted (the channel
  // was lost meanwhile), kFailedPrecondition (no channel was up for all that time). net/proxy_replies.h maps them.
  [[nodiscard]] virtual core::Task<absl::StatusOr<std::unique_ptr<ByteStream>>> Open(proto::Target target,
                                                                                     core::Slice first) = 0;

 protected:
  ~StreamOpener() = default;
};

}  // namespace tunnel::net
