#include "proto/utf8.h"

#include <gtest/gtest.h>

#include <array>
#include <optional>
#include <string>

#include "tests/unit/proto/guarded_input.h"

namespace tunnel::proto {
namespace {

// An independent reading of RFC 3629: decode by the lead's length, then judge the code point.
bool Reference(std::string_view text) {
  size_t i = 0;
  while (i < text.size()) {
    const auto lead = static_cast<uint8_t>(text[i]);
    size_t length;
    uint32_t point;
    if (lead < 0x80) {
      length = 1, point = lead;
    } else if ((lead & 0xE0) == 0xC0) {
      length = 2, point = lead & 0x1F;
    } else if ((lead & 0xF0) == 0xE0) {
      length = 3, point = lead & 0x0F;
    } else if ((lead & 0xF8) == 0xF0) {
      length = 4, point = lead & 0x07;
    } else {
      return false;
    }
    if (text.size() - i < length) return false;
    for (size_t k = 1; k < length; ++k) {
      const auto next = static_cast<uint8_t>(text[i + k]);
      if ((next & 0xC0) != 0x80) return false;
      point = (point << 6) | (next & 0x3F);
    }
    const std::array<uint32_t, 5> least = {0, 0, 0x80, 0x800, 0x10000};
    if (point < least[length] || point > 0x10FFFF || (point >= 0xD800 && point <= 0xDFFF)) return false;
    i += length;
  }
  return true;
}

bool InPieces(std::string_view text, size_t piece_bytes) {
  Utf8Validator validator;
  bool ok = true;
  FeedInPieces(text, piece_bytes, [&](std::span<uint8_t> piece) { ok = ok && validator.Feed(piece); });
  return ok && validator.AtBoundary();
}

TEST(Utf8, EverySequenceOfFourBytesAtTheBoundaries) {
  constexpr std::array<uint8_t, 10> kEdges = {0x00, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xFF};
  std::array<uint8_t, 4> bytes;
  for (unsigned first = 0; first < 256; ++first) {
    bytes[0] = static_cast<uint8_t>(first);
    for (const uint8_t second : kEdges) {
      for (const uint8_t third : kEdges) {
        for (const uint8_t fourth : kEdges) {
          bytes[1] = second, bytes[2] = third, bytes[3] = fourth;
          for (size_t size = 1; size <= 4; ++size) {
            const auto text = std::span<const uint8_t>(bytes).first(size);
            ASSERT_EQ(IsUtf8(text), Reference(AsString(text)))
                << first << " " << +second << " " << +third << " " << +fourth << " " << size;
          }
        }
      }
    }
  }
}

TEST(Utf8, CutAnywhere) {
  const std::string padding(19, 'a');  // past the word-wise skip of ASCII
  for (const std::string& text :
       {std::string("\xCE\xBA\xE1\xBD\xB9\xCF\x83\xCE\xBC\xCE\xB5"), std::string("\xF0\x9F\x98\x80 \xEF\xBF\xBF"),
        (padding + "\xE2\x82\xAC").append(padding), std::string(38, 'a').append("\xC3"), padding + "\xED\xA0\x80",
        std::string("\xF4\x90\x80\x80"), std::string("\xC0\xAF"), padding + "\x80", std::string(64, 'x')}) {
    for (size_t piece = 0; piece <= 20; ++piece) EXPECT_EQ(InPieces(text, piece), Reference(text)) << text << piece;
  }
}

TEST(Utf8, FailsAtTheFirstByteBeyondRepair) {
  const struct {
    std::string_view good;
    uint8_t bad;
  } rows[] = {{"", 0x80},     {"", 0xC0},        {"", 0xC1},     {"", 0xF5},          {"", 0xFF},
              {"\xE0", 0x9F}, {"\xED", 0xA0},    {"\xF0", 0x8F}, {"\xF4", 0x90},      {"\xC2", 0x7F},
              {"\xC2", 0xC0}, {"\xE2\x82", 'a'}, {"a", 0xBF},    {"\xF0\x90\x80", 0}, {"\xC3\xA9", 0xA9}};
  for (const auto& row : rows) {
    Utf8Validator validator;
    EXPECT_TRUE(validator.Feed(AsBytes(row.good)));
    EXPECT_FALSE(validator.Feed({&row.bad, 1})) << row.good << " " << +row.bad;
  }
}

TEST(Utf8, PrefixEndsBetweenCharacters) {
  EXPECT_EQ(Utf8PrefixBytes("", 5), 0u);
  EXPECT_EQ(Utf8PrefixBytes("abc", 5), 3u);
  EXPECT_EQ(Utf8PrefixBytes("abc", 2), 2u);
  EXPECT_EQ(Utf8PrefixBytes("a\xE2\x82\xAC", 4), 4u);
  EXPECT_EQ(Utf8PrefixBytes("a\xE2\x82\xAC", 3), 1u);
  EXPECT_EQ(Utf8PrefixBytes("ab\xFFz", 10), 2u);
  EXPECT_EQ(Utf8PrefixBytes("ab\xE2\x82", 10), 2u);
}

}  // namespace
}  // namespace tunnel::proto
