// UTF-8 as RFC 3629 defines it: no overlong forms, no surrogates, nothing above U+10FFFF.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace tunnel::proto {

// Validates text that arrives in pieces, cut anywhere. Fails at the first byte that no continuation can repair.
class Utf8Validator {
 public:
  // False when `piece`, after what was fed before, is not the beginning of any valid text. Use it no further then.
  [[nodiscard]] bool Feed(std::span<const uint8_t> piece);

  // True when what was fed ends between two characters.
  [[nodiscard]] bool AtBoundary() const { return missing_ == 0; }

  void Reset() { *this = Utf8Validator(); }

 private:
  uint8_t missing_ = 0;  // continuation bytes the character begun still needs
  uint8_t low_ = 0x80;   // the range of the next one: the first after E0, ED, F0 and F4 is narrower
  uint8_t high_ = 0xBF;
};

[[nodiscard]] bool IsUtf8(std::span<const uint8_t> text);

// The size of the longest prefix of `text` that is whole, valid characters and at most `max_bytes` long.
[[nodiscard]] size_t Utf8PrefixBytes(std::string_view text, size_t max_bytes);

}  // namespace tunnel::proto
