#include "net/http_body_relay.h"

#include <algorithm>

#include "net/limits.h"
#include "proto/http1_forward.h"

namespace tunnel::net {

using proto::BodyFraming;
using proto::ChunkedDecoder;

HttpBodyRelay::HttpBodyRelay(core::Reactor& reactor, const BodyFraming& framing, BodyOut out, ByteStream& to)
    : reactor_(reactor), framing_(framing), out_(out), to_(to), remaining_(framing.length) {
  const bool empty = framing.kind == BodyFraming::Kind::kLength && framing.length == 0;
  if (framing.kind == BodyFraming::Kind::kNone || empty) state_ = State::kDone;
}

HttpBodyRelay::State HttpBodyRelay::Take(core::Slice& data) {
  TUNNEL_CHECK(state_ == State::kMore);
  sent_ = false;
  switch (framing_.kind) {
    case BodyFraming::Kind::kNone:
      break;
    case BodyFraming::Kind::kLength: {
      const auto taken = static_cast<size_t>(std::min<uint64_t>(remaining_, data.size()));
      remaining_ -= taken;
      SendPiece(data.Share(0, taken));
      data.RemovePrefix(taken);
      if (remaining_ == 0) state_ = State::kDone;
      break;
    }
    case BodyFraming::Kind::kUntilClose:
      SendPiece(std::exchange(data, core::Slice()));
      break;
    case BodyFraming::Kind::kChunked:
      state_ = TakeChunked(data);
      Flush();
      break;
  }
  return state_;
}

HttpBodyRelay::State HttpBodyRelay::End() {
  if (state_ != State::kMore) return state_;
  if (framing_.kind == BodyFraming::Kind::kUntilClose) return state_ = State::kDone;
  reason_ = "the connection ended inside a body";
  return state_ = State::kBad;
}

HttpBodyRelay::State HttpBodyRelay::TakeChunked(core::Slice& data) {
  for (;;) {
    const ChunkedDecoder::Step step = chunks_.Next(data.text());
    if (step.kind == ChunkedDecoder::Step::Kind::kData) {
      core::Slice piece = data.Share(static_cast<size_t>(step.data.data() - data.text().data()), step.data.size());
      data.RemovePrefix(step.consumed);
      if (out_ == BodyOut::kAsFramed) Append(fmt::format("{:x}\r\n", piece.size()));
      if (piece.size() < kCopiedChunkBytes) {
        Append(piece.text());
      } else {
        Flush();
        SendPiece(std::move(piece));
      }
      if (out_ == BodyOut::kAsFramed) Append("\r\n");
      continue;
    }
    trailers_ += step.trailers;  // bounded by the decoder
    data.RemovePrefix(step.consumed);
    switch (step.kind) {
      case ChunkedDecoder::Step::Kind::kDone:
        if (out_ == BodyOut::kAsFramed) {
          Append("0\r\n");
          Append(proto::ForwardedTrailers(trailers_));
          Append("\r\n");
        }
        return State::kDone;
      case ChunkedDecoder::Step::Kind::kError:
        reason_ = step.reason;
        return State::kBad;
      default:
        return State::kMore;
    }
  }
}

void HttpBodyRelay::SendPiece(core::Slice piece) {
  if (piece.empty()) return;
  sent_ = true;
  to_.Send(std::move(piece));
}

void HttpBodyRelay::Append(std::string_view text) {
  while (!text.empty()) {
    if (block_.room() == 0 || block_.buffer() == nullptr) {
      Flush();
      block_ = reactor_.buffers().Allocate(kChunkBlockBytes);
      block_.Truncate(0);
    }
    const size_t taken = std::min(text.size(), block_.room());
    block_.Append({reinterpret_cast<const uint8_t*>(text.data()), taken});
    text.remove_prefix(taken);
  }
}

void HttpBodyRelay::Flush() { SendPiece(std::exchange(block_, core::Slice())); }

}  // namespace tunnel::net
