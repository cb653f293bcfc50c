// The chunked transfer coding (RFC 9112 7.1), decoded as it arrives.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace tunnel::proto {

// Strict: CRLF only, no white space around a size, extensions and trailers bounded in sum (codec_limits.h). Extensions
// are checked and dropped, trailers handed out as they stand. Holds a few words of state and copies nothing. After
// kDone and kError it stays there.
class ChunkedDecoder {
 public:
  struct Step {
    enum class Kind { kNeedMore, kData, kDone, kError };
    Kind kind = Kind::kNeedMore;
    // Bytes of the input that this step took, `data` among them. kNeedMore takes all. After kDone the others follow
    // the body.
    size_t consumed = 0;
    // kData: a view into the input, never empty.
    std::string_view data;
    // kNeedMore and kDone: the part of the trailer section that this step took, a view into the input. All of them
    // together are lines `name: value CRLF` and the empty line.
    std::string_view trailers;
    // kError: a literal.
    std::string_view reason;
  };

  // Takes a prefix of `input`. The caller drops `consumed` bytes and calls again until kNeedMore, kDone or kError.
  [[nodiscard]] Step Next(std::string_view input);

 private:
  enum class State : uint8_t {
    kSizeStart,
    kSize,
    kExtension,
    kSizeLf,
    kData,
    kDataCr,
    kDataLf,
    kTrailerStart,
    kTrailerName,
    kTrailerValue,
    kTrailerLf,
    kEndLf,
    kDone,
    kError,
  };

  [[nodiscard]] bool in_trailers() const { return state_ >= State::kTrailerStart && state_ <= State::kEndLf; }
  // Moves past one byte that is not data. Returns an error's reason, or nothing.
  std::string_view Advance(char c);
  std::string_view AddSizeDigit(char c);

  State state_ = State::kSizeStart;
  // Of the chunk: its size as far as read, then what is left of its data.
  uint64_t remaining_ = 0;
  size_t line_bytes_ = 0;
  size_t extension_bytes_ = 0;
  size_t trailer_bytes_ = 0;
  std::string_view reason_;
};

}  // namespace tunnel::proto
