// Decoding and encoding are each other's inverse in both alphabets, and only one text means given bytes.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "core/check.h"
#include "proto/base64.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tunnel::proto;
  const std::span<const uint8_t> bytes(data, size);
  const std::string_view text(reinterpret_cast<const char*>(data), size);

  const std::string standard = Base64Encode(bytes);
  const std::string url = Base64UrlEncode(bytes);
  TUNNEL_CHECK(standard.size() == (size + 2) / 3 * 4);
  const auto back = Base64Decode(standard);
  TUNNEL_CHECK(back && std::equal(back->begin(), back->end(), bytes.begin(), bytes.end()));
  TUNNEL_CHECK(Base64UrlDecode(url) == back);

  if (const auto decoded = Base64Decode(text)) TUNNEL_CHECK(Base64Encode(*decoded) == text);
  if (const auto decoded = Base64UrlDecode(text)) TUNNEL_CHECK(Base64UrlEncode(*decoded) == text);
  return 0;
}
