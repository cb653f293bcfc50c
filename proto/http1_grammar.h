// Character classes and list syntax of HTTP (RFC 9110 5.6), shared by the head parser, the chunked decoder and the
// builder. Nothing here allocates.
#pragma once

#include <algorithm>
#include <string_view>

namespace tunnel::proto {

// RFC 9110 5.6.2: what methods and field names are made of.
constexpr bool IsTokenChar(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
         std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos;
}

constexpr bool IsToken(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), IsTokenChar);
}

// RFC 9110 5.5: VCHAR, SP, HTAB and obs-text. No CR, LF, NUL or other control character.
constexpr bool IsFieldValueChar(char c) {
  const auto byte = static_cast<unsigned char>(c);
  return byte == '\t' || (byte >= 0x20 && byte != 0x7f);
}

constexpr bool IsFieldValue(std::string_view text) { return std::all_of(text.begin(), text.end(), IsFieldValueChar); }

// Visible ASCII.
constexpr bool IsVchar(char c) { return c > 0x20 && c < 0x7f; }

constexpr char AsciiLower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c; }

constexpr bool EqualsIgnoreCase(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](char x, char y) { return AsciiLower(x) == AsciiLower(y); });
}

// `text` without the spaces and tabs around it (RFC 9110 5.6.3).
constexpr std::string_view TrimOws(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

}  // namespace tunnel::proto
