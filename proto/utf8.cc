#include "proto/utf8.h"

#include <algorithm>
#include <cstring>

namespace tunnel::proto {
namespace {

size_t AsciiPrefixBytes(const uint8_t* data, size_t size) {
  constexpr uint64_t kHighBits = 0x8080808080808080;
  size_t i = 0;
  for (; size - i >= 16; i += 16) {
    uint64_t words[2];
    std::memcpy(words, data + i, sizeof(words));
    if (((words[0] | words[1]) & kHighBits) != 0) break;
  }
  while (i < size && data[i] < 0x80) ++i;
  return i;
}

}  // namespace

bool Utf8Validator::Feed(std::span<const uint8_t> piece) {
  const uint8_t* data = piece.data();
  const size_t size = piece.size();
  for (size_t i = 0; i < size; ++i) {
    if (missing_ == 0) {
      i += AsciiPrefixBytes(data + i, size - i);
      if (i == size) return true;
      const uint8_t lead = data[i];
      if (lead < 0xC2 || lead > 0xF4) return false;
      missing_ = lead < 0xE0 ? 1 : lead < 0xF0 ? 2 : 3;
      low_ = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
      high_ = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
    } else {
      if (data[i] < low_ || data[i] > high_) return false;
      low_ = 0x80;
      high_ = 0xBF;
      --missing_;
    }
  }
  return true;
}

bool IsUtf8(std::span<const uint8_t> text) {
  Utf8Validator validator;
  return validator.Feed(text) && validator.AtBoundary();
}

size_t Utf8PrefixBytes(std::string_view text, size_t max_bytes) {
  Utf8Validator validator;
  size_t whole = 0;
  const size_t limit = std::min(text.size(), max_bytes);
  for (size_t i = 0; i < limit; ++i) {
    const auto byte = static_cast<uint8_t>(text[i]);
    if (!validator.Feed({&byte, 1})) break;
    if (validator.AtBoundary()) whole = i + 1;
  }
  return whole;
}

}  // namespace tunnel::proto
