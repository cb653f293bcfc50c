// One DoH question over HTTP/1.1, for resolvers that do not speak HTTP/2.
#pragma once

#include <cstdint>
#include <vector>

#include "core/buffer_pool.h"
#include "core/task.h"
#include "net/byte_stream.h"
#include "net/doh_exchange.h"

namespace tunnel::net {

// Sends `request` and returns the body of the answer. The stream must be fresh and outlive the task, as must `buffers`;
// it serves no second request and is left for the caller to close. Fails when the answer is no DNS message, breaks
// RFC 9112 or its bounds, when the stream ends early, or when the task is interrupted.
[[nodiscard]] core::Task<absl::StatusOr<std::vector<uint8_t>>> FetchHttp1(ByteStream& stream, core::BufferPool& buffers,
                                                                          DohRequest request);

}  // namespace tunnel::net
