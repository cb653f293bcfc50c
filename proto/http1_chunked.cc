#include "proto/http1_chunked.h"

#include <algorithm>

#include "proto/codec_limits.h"
#include "proto/hex.h"
#include "proto/http1_grammar.h"

namespace tunnel::proto {

ChunkedDecoder::Step ChunkedDecoder::Next(std::string_view input) {
  size_t at = 0;
  size_t trailers_at = in_trailers() ? 0 : std::string_view::npos;
  while (state_ != State::kDone && state_ != State::kError && at < input.size()) {
    if (state_ == State::kData) {
      const auto taken = static_cast<size_t>(std::min<uint64_t>(remaining_, input.size() - at));
      remaining_ -= taken;
      if (remaining_ == 0) state_ = State::kDataCr;
      return {.kind = Step::Kind::kData, .consumed = at + taken, .data = input.substr(at, taken)};
    }
    reason_ = Advance(input[at]);
    if (!reason_.empty()) state_ = State::kError;
    ++at;
    if (in_trailers()) trailers_at = std::min(trailers_at, at);
  }
  if (state_ == State::kError) return {.kind = Step::Kind::kError, .consumed = at, .reason = reason_};
  return {.kind = state_ == State::kDone ? Step::Kind::kDone : Step::Kind::kNeedMore,
          .consumed = at,
          .trailers = trailers_at < at ? input.substr(trailers_at, at - trailers_at) : std::string_view()};
}

std::string_view ChunkedDecoder::AddSizeDigit(char c) {
  const int digit = HexValue(c);
  if (digit < 0) return "malformed chunk size";
  if (remaining_ > kHttp1MaxContentLength >> 4) return "the chunk size is too large";
  remaining_ = remaining_ << 4 | static_cast<uint64_t>(digit);
  return {};
}

std::string_view ChunkedDecoder::Advance(char c) {
  switch (state_) {
    case State::kSizeStart:
      remaining_ = 0;
      line_bytes_ = 1;
      state_ = State::kSize;
      return AddSizeDigit(c);
    case State::kSize:
      if (c == '\r') {
        state_ = State::kSizeLf;
        return {};
      }
      if (++line_bytes_ > kHttp1MaxChunkLineBytes) return "the chunk size line is too long";
      if (c != ';') return AddSizeDigit(c);
      state_ = State::kExtension;
      return ++extension_bytes_ > kHttp1MaxChunkExtensionBytes ? "too many chunk extensions" : "";
    case State::kExtension:
      if (c == '\r') {
        state_ = State::kSizeLf;
        return {};
      }
      if (!IsFieldValueChar(c)) return "control character in a chunk extension";
      if (++line_bytes_ > kHttp1MaxChunkLineBytes) return "the chunk size line is too long";
      return ++extension_bytes_ > kHttp1MaxChunkExtensionBytes ? "too many chunk extensions" : "";
    case State::kSizeLf:
      if (c != '\n') return "a bare CR in the chunk size line";
      state_ = remaining_ > 0 ? State::kData : State::kTrailerStart;
      return {};
    case State::kDataCr:
      if (c != '\r') return "the chunk does not end in CRLF";
      state_ = State::kDataLf;
      return {};
    case State::kDataLf:
      if (c != '\n') return "the chunk does not end in CRLF";
      state_ = State::kSizeStart;
      return {};
    case State::kTrailerStart:
      if (c == '\r') {
        state_ = State::kEndLf;
        return {};
      }
      state_ = State::kTrailerName;
      if (!IsTokenChar(c)) return "malformed trailer name";
      return ++trailer_bytes_ > kHttp1MaxTrailerBytes ? "the trailers are too long" : "";
    case State::kTrailerName:
      if (c == ':') {
        state_ = State::kTrailerValue;
      } else if (!IsTokenChar(c)) {
        return "malformed trailer name";
      }
      return ++trailer_bytes_ > kHttp1MaxTrailerBytes ? "the trailers are too long" : "";
    case State::kTrailerValue:
      if (c == '\r') {
        state_ = State::kTrailerLf;
      } else if (!IsFieldValueChar(c)) {
        return "control character in a trailer";
      }
      return ++trailer_bytes_ > kHttp1MaxTrailerBytes ? "the trailers are too long" : "";
    case State::kTrailerLf:
      if (c != '\n') return "a bare CR in a trailer";
      state_ = State::kTrailerStart;
      return {};
    case State::kEndLf:
      if (c != '\n') return "the body does not end in CRLF";
      state_ = State::kDone;
      return {};
    case State::kData:
    case State::kDone:
    case State::kError:
      break;
  }
  return "the body has ended";
}

}  // namespace tunnel::proto
