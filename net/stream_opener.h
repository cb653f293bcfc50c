// How a listener gets a stream through the tunnel, whatever protocol carries it.
#pragma once

#include <memory>
#include <utility>

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
  // As Open() without first bytes, for who has nothing to say to an application until the target speaks: where the
  // channel's protocol can, it ends with the stream before the target is connected, so that what the application sends
  // meanwhile does not wait a round trip. The stream then dies with what Open() would have ended with; kOpenLimit is
  // the server's to keep.
  [[nodiscard]] virtual core::Task<absl::StatusOr<std::unique_ptr<ByteStream>>> OpenAhead(proto::Target target) {
    return Open(std::move(target), core::Slice());
  }

 protected:
  ~StreamOpener() = default;
};

}  // namespace tunnel::net
