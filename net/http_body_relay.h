// Passes the body of one HTTP message on to another stream as it arrives, checked and framed for its receiver.
#pragma once

#include <string>
#include <string_view>

#include "core/reactor.h"
#include "net/byte_stream.h"
#include "proto/http1.h"
#include "proto/http1_chunked.h"

namespace tunnel::net {

// How the receiver finds the end of the body.
enum class BodyOut {
  kAsFramed,  // as the sender said
  kPlain,     // without chunks: it ends with the connection
};

// A body with a length, or one that ends with its connection, goes through untouched and uncopied. A chunked one is
// decoded strictly and encoded again: chunk extensions, which are of one hop (RFC 9112 7.1.1), are gone, trailers are
// kept but for those that must not be there. Chunks are cut anew, at the borders of the slices that arrive.
class HttpBodyRelay {
 public:
  enum class State { kMore, kDone, kBad };

  // `to` must outlive the relay's calls.
  HttpBodyRelay(core::Reactor& reactor, const proto::BodyFraming& framing, BodyOut out, ByteStream& to);

  // Takes the body's bytes off the front of `data` and sends them. kDone: what is left belongs to the next message.
  // After kDone and kBad it is not called again.
  [[nodiscard]] State Take(core::Slice& data);
  // The sender's stream ended in order.
  [[nodiscard]] State End();
  [[nodiscard]] State state() const { return state_; }
  // kBad: why, a literal.
  [[nodiscard]] std::string_view reason() const { return reason_; }
  // Whether the last Take() sent something.
  [[nodiscard]] bool sent() const { return sent_; }

 private:
  State TakeChunked(core::Slice& data);
  void SendPiece(core::Slice piece);
  void Append(std::string_view text);
  void Flush();

  core::Reactor& reactor_;
  const proto::BodyFraming framing_;
  const BodyOut out_;
  ByteStream& to_;
  State state_ = State::kMore;
  std::string_view reason_;
  bool sent_ = false;
  uint64_t remaining_ = 0;
  proto::ChunkedDecoder chunks_;
  // Of one call: chunk heads and small chunks, so that a body of many small ones does not become as many messages.
  core::Slice block_;
  std::string trailers_;
};

}  // namespace tunnel::net
