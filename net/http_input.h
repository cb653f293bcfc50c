// The receiving side of one HTTP/1.1 connection that is forwarded: a sequence pulls heads from it, bodies are pushed on
// to another connection as they come.
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <string>

#include "core/reactor.h"
#include "core/task.h"
#include "net/http_body_relay.h"

namespace tunnel::net {

// Owns the stream and is its handler. Outside a body it holds what one slice brought and pauses the stream. Owner core
// only. Destroying either end of a body abandons it.
class HttpInput final : ByteStream::Handler {
 public:
  // `changed` is set when a sequence should look again: bytes came, a body ended, the connection ended, died or
  // drained. Several inputs may share it; it must outlive them. `received_bytes` counts.
  HttpInput(core::Reactor& reactor, std::unique_ptr<ByteStream> stream, core::Counter& received_bytes,
            core::Event& changed);
  HttpInput(const HttpInput&) = delete;
  HttpInput& operator=(const HttpInput&) = delete;
  // Aborts the stream unless it was released or closed.
  ~HttpInput();

  [[nodiscard]] ByteStream& stream() { return *stream_; }
  // Bytes that nobody took are there.
  // A head has begun and not ended.
  [[nodiscard]] bool inside_head() const { return !head_done_ && !head_.empty(); }
  [[nodiscard]] bool has_bytes() const { return !received_.empty(); }
  // The peer finished sending, in order; what it sent may still be here.
  [[nodiscard]] bool ended() const { return ended_; }
  // Why the connection is over in both directions, Ok included; nullopt while it is not.
  [[nodiscard]] const std::optional<absl::Status>& over() const { return over_; }

  // Puts bytes that were received before this became the handler in front; `ended` as above.
  void AddReceived(std::deque<core::Slice> slices, bool ended);

  // Parses the next message's head from what is here, as ParseRequestHead and ParseResponseHead do. kNeedMore: wait for
  // `changed` and call again, unless the peer ended. kDone: `head` stays valid until the next call or DropHead(). Not
  // while a body is under way.
  [[nodiscard]] proto::HeadResult NextRequest(proto::RequestHead& head);
  [[nodiscard]] proto::HeadResult NextResponse(std::string_view method, proto::ResponseHead& head);
  // Frees the memory of the last head.
  void DropHead();

  // Pushes the body that follows to the stream of `to`, with backpressure, until it ends; `changed` tells. One at a
  // time, and one towards `to`.
  void StartBody(const proto::BodyFraming& framing, BodyOut out, HttpInput& to);
  // kDone also where there is no body.
  [[nodiscard]] HttpBodyRelay::State body() const { return body_ ? body_->state() : HttpBodyRelay::State::kDone; }
  // Whether the body cannot go on because its receiver is gone; body() stays kMore.
  [[nodiscard]] bool abandoned() const { return body() == HttpBodyRelay::State::kMore && to_ == nullptr; }
  [[nodiscard]] std::string_view body_reason() const { return body_ ? body_->reason() : std::string_view(); }

  // What nobody took, when the connection is over.
  [[nodiscard]] std::deque<core::Slice> TakeReceived() { return std::exchange(received_, {}); }
  // Gives up the stream: it has no handler, and `received` is what nobody took. Only while it is not over.
  [[nodiscard]] std::unique_ptr<ByteStream> Release(std::deque<core::Slice>& received);
  // Sends what is queued and closes, as ByteStream::CloseAfterSend.
  void CloseAfterSend();

 private:
  template <typename Parse>
  proto::HeadResult NextHead(Parse parse);
  void Pump();
  // Takes this out of the pair that a body makes, whichever end of it this is.
  void Unpair();

  void OnData(core::Slice data) override;
  void OnEnd() override;
  void OnDrained() override;
  void OnDead(absl::Status reason) override;

  core::Reactor& reactor_;
  std::unique_ptr<ByteStream> stream_;
  core::Counter& received_bytes_;
  core::Event& changed_;
  std::deque<core::Slice> received_;
  bool ended_ = false;
  std::optional<absl::Status> over_;
  std::string head_;
  bool head_done_ = false;
  std::optional<HttpBodyRelay> body_;
  HttpInput* to_ = nullptr;      // where the body goes
  HttpInput* feeder_ = nullptr;  // whose body comes to this stream
};

}  // namespace tunnel::net
