// Base64 (RFC 4648): the standard alphabet with padding (section 4) and the URL-safe one without (section 5).
//
// The decoders are strict: exactly what the encoders write, and nothing else, is accepted. White space, missing or
// superfluous padding, the other alphabet, and non-zero bits after the last byte are refused (section 3.5), so no two
// texts mean the same bytes.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tunnel::proto {

[[nodiscard]] std::string Base64Encode(std::span<const uint8_t> bytes);
[[nodiscard]] std::string Base64UrlEncode(std::span<const uint8_t> bytes);

// nullopt when `text` is not strictly what the encoder of the same name writes. The empty text is no bytes.
[[nodiscard]] std::optional<std::vector<uint8_t>> Base64Decode(std::string_view text);
[[nodiscard]] std::optional<std::vector<uint8_t>> Base64UrlDecode(std::string_view text);

}  // namespace tunnel::proto
