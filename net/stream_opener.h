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
  // once the target is connected, or kUnavailable (the target or its channel), or kDeadlineExceeded (also when no
  // channel was up all the time).
  [[nodiscard]] virtual core::Task<absl::StatusOr<std::unique_ptr<ByteStream>>> Open(proto::Target target,
                                                                                     core::Slice first) = 0;

 protected:
  ~StreamOpener() = default;
};

}  // namespace tunnel::net
