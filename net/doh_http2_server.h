// The server's side of DoH over HTTP/2 (RFC 9113, RFC 8484): requests on one connection, answered as they come.
#pragma once

#include <absl/container/flat_hash_map.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "core/reactor.h"
#include "core/task.h"
#include "core/timers.h"
#include "net/byte_stream.h"
#include "net/doh_request.h"

struct nghttp2_session;

namespace tunnel::net {

// One request, with what an answer depends on.
struct Http2Request {
  std::string method;
  std::string path;
  std::string content_type;
  std::string protocol;   // Sec-WebSocket-Protocol, which has no meaning here but for what a refusal says
  std::string body;       // no longer than kMaxDohQueryBytes
  bool too_long = false;  // the body was; it is not here then
};

// nghttp2 speaks, this class carries its bytes. A tunnel does not come up here: RFC 8441's extended CONNECT is not
// offered. What a client costs is bounded: the requests of a connection (a reset one counts as any other,
// CVE-2023-44487), the frames and bytes that they may come in, those that run at once, and the time without a request
// answered. At a bound the client gets GOAWAY. While it does not read what it is sent, nothing is read from it.
// Owner core only.
class DohHttp2Server final : ByteStream::Handler {
 public:
  static constexpr uint32_t kStreamsAtOnce = 100;
  static constexpr size_t kRequests = 1000;  // as nginx's keepalive_requests
  // HEADERS, DATA, WINDOW_UPDATE and the like; a request needs two or three.
  static constexpr size_t kFrames = 8 * kRequests;
  static constexpr size_t kHeaderBytes = size_t{16} * 1024;  // of one request, as RFC 9113 section 6.5.2 counts
  // What may be received before the first request, and more with each.
  static constexpr size_t kOverheadBytes = size_t{64} * 1024;
  static constexpr size_t kBytesPerRequest = kHeaderBytes + kMaxDohQueryBytes;
  static constexpr size_t kOwedAcks = 64;

  // Called for each request once it is whole; does not call back into the server.
  using Responder = std::function<DohReply(const Http2Request& request)>;

  // `stream` is one on which "h2" was agreed; it must outlive this, and its handler is this until Serve() is through.
  DohHttp2Server(core::Reactor& reactor, ByteStream& stream, Responder responder);
  DohHttp2Server(const DohHttp2Server&) = delete;
  DohHttp2Server& operator=(const DohHttp2Server&) = delete;
  ~DohHttp2Server();

  // Answers until the connection is over, by whosever will: true when the stream is then still to be closed in order,
  // with what there is to say queued; false when it is dead or was aborted. An interruption says GOAWAY. Once.
  [[nodiscard]] core::Task<bool> Serve();

 private:
  struct Stream {
    Http2Request request;
    size_t header_bytes = 0;
    bool answered = false;
    std::vector<uint8_t> reply;
    size_t sent = 0;  // of it
  };
  struct Callbacks;  // what nghttp2 calls

  void OnData(core::Slice data) override;
  void OnEnd() override;
  void OnDrained() override;
  void OnDead(absl::Status reason) override;

  // Null for a stream that is not there any more.
  [[nodiscard]] Stream* Find(int32_t stream_id);
  void Answer(int32_t stream_id, Stream& stream);
  // Gives the stream what nghttp2 wants to send, and ends Serve() when HTTP/2 is over.
  void Flush();
  // Says GOAWAY with an error code of RFC 9113 section 7 and ends Serve().
  void End(uint32_t error_code);

  core::Reactor& reactor_;
  ByteStream& stream_;
  const Responder responder_;
  nghttp2_session* session_ = nullptr;
  size_t frames_ = 0;
  size_t requests_ = 0;
  size_t received_bytes_ = 0;
  bool over_bounds_ = false;
  bool paused_ = false;
  bool dead_ = false;  // the stream: nothing more is to be said on it
  core::Event done_;
  absl::flat_hash_map<int32_t, std::unique_ptr<Stream>> streams_;
  core::Timer idle_;
};

}  // namespace tunnel::net
