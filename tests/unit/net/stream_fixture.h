// Streams over real sockets, on both backends.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "stream_recorder.h"
#include "tests/unit/core/reactor_fixture.h"

namespace tunnel::net {

using core::testing::Pattern;
using core::testing::RawPeer;
using core::testing::ReactorTest;

// The backends as they come; core/ tests them without their features.
inline std::vector<core::testing::BackendCase> WholeBackends() {
  std::vector<core::testing::BackendCase> whole;
  for (core::testing::BackendCase& backend : core::testing::BackendCases()) {
    if (backend.options.backend_options.disabled_features.empty()) whole.push_back(std::move(backend));
  }
  return whole;
}

#define TUNNEL_FOR_BOTH_BACKENDS(suite)                                                          \
  INSTANTIATE_TEST_SUITE_P(Backends, suite, ::testing::ValuesIn(::tunnel::net::WholeBackends()), \
                           ::tunnel::core::testing::CaseName)

// Sends bytes of the pattern as fast as a stream takes them.
class StreamSource {
 public:
  StreamSource(core::Reactor& reactor, ByteStream& stream, uint64_t total)
      : reactor_(reactor), stream_(stream), total_(total) {}
  // Until the stream is full or all is queued. To be called at first and from OnDrained().
  void Push() {
    while (sent_ < total_ && stream_.writable()) {
      core::Slice block = reactor_.buffers().Allocate(core::BufferPool::kMaxBlockBytes);
      block.Truncate(std::min<uint64_t>(block.size(), total_ - sent_));
      Pattern::Fill(sent_, block.bytes());
      sent_ += block.size();
      stream_.Send(std::move(block));
    }
  }
  [[nodiscard]] uint64_t sent() const { return sent_; }
  [[nodiscard]] bool done() const { return sent_ == total_; }

 private:
  core::Reactor& reactor_;
  ByteStream& stream_;
  const uint64_t total_;
  uint64_t sent_ = 0;
};

}  // namespace tunnel::net
