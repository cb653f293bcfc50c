// An HTTP/2 connection to a DoH resolver: questions overlap on it, and it is kept a while for the next ones.
#pragma once

#include <absl/container/flat_hash_map.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/reactor.h"
#include "core/task.h"
#include "core/timers.h"
#include "net/byte_stream.h"
#include "net/doh_exchange.h"

struct nghttp2_session;

namespace tunnel::net {

// nghttp2 speaks, this class carries its bytes. The server is held to bounds: what it may send is the sum of what the
// questions so far allow for (doh_exchange.h), whatever kinds of frames it is made of; beyond, it is cut off.
// Owner core only. Must not be destroyed from inside its stream's callbacks, nor while a Fetch runs.
class DohHttp2 final : ByteStream::Handler {
 public:
  // Without a question for this long the connection is closed.
  static constexpr core::Duration kIdleLimit = std::chrono::seconds(10);

  // Takes over a connection on which "h2" was agreed.
  DohHttp2(core::Reactor& reactor, std::unique_ptr<ByteStream> stream);
  DohHttp2(const DohHttp2&) = delete;
  DohHttp2& operator=(const DohHttp2&) = delete;
  // Closes in order: GOAWAY, then the end of the stream.
  ~DohHttp2();

  // Whether it takes another question. Once false, it stays so.
  [[nodiscard]] bool usable() const;

  // Asks and returns the body of the answer. Any number of calls may overlap; an interrupted one resets its stream.
  [[nodiscard]] core::Task<absl::StatusOr<std::vector<uint8_t>>> Fetch(DohRequest request);

 private:
  // One question; lives in its Fetch.
  struct Exchange {
    std::string_view unsent;  // of the request's body, which outlives it
    int status = 0;
    std::string content_type;
    size_t header_bytes = 0;
    bool head_done = false;
    bool ended = false;  // the server's END_STREAM was seen
    std::vector<uint8_t> body;
    absl::Status failure;
    bool done = false;
    core::Event finished;
  };
  struct Callbacks;  // what nghttp2 calls

  void OnData(core::Slice data) override;
  void OnEnd() override;
  void OnDrained() override;
  void OnDead(absl::Status reason) override;

  [[nodiscard]] Exchange* Find(int32_t stream_id);
  void Finish(int32_t stream_id, absl::Status status);
  // Finishes with a failure and tells the server to stop.
  void Refuse(nghttp2_session* session, int32_t stream_id, absl::Status status);
  // Gives the stream what nghttp2 wants to send.
  void Flush();
  // Fails what runs; no more is sent or received. In order (the peer gets what is queued) or at once.
  void CloseInOrder(const absl::Status& reason);
  void Abort(const absl::Status& reason);
  void FailAll(const absl::Status& reason);
  // Closes when HTTP/2 is over, and sets the idle timer.
  void AfterTurn();

  core::Reactor& reactor_;
  std::unique_ptr<ByteStream> stream_;
  nghttp2_session* session_ = nullptr;
  bool closed_ = false;
  // A question was given up with not a byte received since it was asked: the path may be dead, and a question every few
  // seconds would keep the connection for good.
  bool mute_ = false;
  std::string complaint_;  // what nghttp2 had against the server's frames
  size_t received_bytes_ = 0;
  size_t allowed_bytes_ = kDohMaxOverheadBytes;
  absl::flat_hash_map<int32_t, Exchange*> exchanges_;
  core::Timer idle_;
};

}  // namespace tunnel::net
