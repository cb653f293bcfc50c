#include "proto/base64.h"

#include <gtest/gtest.h>

#include "tests/unit/proto/guarded_input.h"

namespace tunnel::proto {
namespace {

std::optional<std::string> Decoded(std::optional<std::vector<uint8_t>> bytes) {
  if (!bytes) return std::nullopt;
  return AsString(*bytes);
}

TEST(Base64, VectorsOfRfc4648) {
  const std::pair<std::string_view, std::string_view> vectors[] = {
      {"", ""},
      {"f", "Zg=="},
      {"fo", "Zm8="},
      {"foo", "Zm9v"},
      {"foob", "Zm9vYg=="},
      {"fooba", "Zm9vYmE="},
      {"foobar", "Zm9vYmFy"},
  };
  GuardedInput guarded;
  for (const auto& [plain, text] : vectors) {
    SCOPED_TRACE(plain);
    EXPECT_EQ(Base64Encode(guarded.Place(plain)), text);
    EXPECT_EQ(Decoded(Base64Decode(AsString(guarded.Place(text)))), plain);
    const auto unpadded = text.substr(0, text.find('='));
    EXPECT_EQ(Base64UrlEncode(AsBytes(plain)), unpadded);
    EXPECT_EQ(Decoded(Base64UrlDecode(unpadded)), plain);
  }
}

TEST(Base64, AlphabetsDifferInTwoCharacters) {
  const std::string bytes = "\xFB\xEF\xFF";
  EXPECT_EQ(Base64Encode(AsBytes(bytes)), "++//");
  EXPECT_EQ(Base64UrlEncode(AsBytes(bytes)), "--__");
  EXPECT_EQ(Decoded(Base64Decode("++//")), bytes);
  EXPECT_EQ(Decoded(Base64UrlDecode("--__")), bytes);
  EXPECT_FALSE(Base64Decode("--__"));
  EXPECT_FALSE(Base64UrlDecode("++//"));
}

TEST(Base64, StandardDecoderRefuses) {
  for (const std::string_view text :
       {"Zg",    "Zg=",   "Zg===",  "Z",      "Z===",     "====",    "=",        "==",
        "Zm8",   "Zm9v=", "Zm9v==", "Zm9vYg", "Zg==Zg==", "Zm=v",    "Z=m9",     "Zm9v\n",
        "Zm 9v", " Zg==", "Zg==\n", "Zh==",   "Zm9=",     "Zm\x80v", "Zm9v*m8=", "_m9v"}) {
    EXPECT_FALSE(Base64Decode(text)) << text;
  }
  EXPECT_FALSE(Base64Decode(std::string_view("Zm9\0", 4)));
}

TEST(Base64, UrlDecoderRefuses) {
  for (const std::string_view text : {"Zg==", "Zm8=", "Z", "Zm9vY", "Zh", "Zm9", "Zm9v\n", "Zm 9v", "+m9v", "/m9v"}) {
    EXPECT_FALSE(Base64UrlDecode(text)) << text;
  }
}

TEST(Base64, EveryByteAtEveryPlace) {
  for (unsigned value = 0; value < 256; ++value) {
    for (size_t size = 1; size <= 6; ++size) {
      for (size_t place = 0; place < size; ++place) {
        std::vector<uint8_t> bytes(size, 0x5A);
        bytes[place] = static_cast<uint8_t>(value);
        ASSERT_EQ(Base64Decode(Base64Encode(bytes)), bytes);
        ASSERT_EQ(Base64UrlDecode(Base64UrlEncode(bytes)), bytes);
      }
    }
  }
}

}  // namespace
}  // namespace tunnel::proto
