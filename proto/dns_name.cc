#include "proto/dns_name.h"

#include "core/status.h"
#include "proto/codec_limits.h"
#include "proto/dns_wire.h"

namespace tunnel::proto {
namespace {

constexpr uint8_t kPointerBits = 0xc0;

uint8_t Lower(uint8_t byte) { return byte >= 'A' && byte <= 'Z' ? static_cast<uint8_t>(byte + ('a' - 'A')) : byte; }

void AppendLabelText(std::span<const uint8_t> label, std::string& text) {
  for (const uint8_t byte : label) {
    if (byte <= 0x20 || byte >= 0x7f) {
      fmt::format_to(std::back_inserter(text), "\\{:03}", byte);
      continue;
    }
    if (std::string_view(".\\\"();@$").find(static_cast<char>(byte)) != std::string_view::npos) text += '\\';
    text += static_cast<char>(Lower(byte));
  }
}

// Takes one character, escaped or not, off `rest`. False when the escape is malformed.
bool TakeByte(std::string_view& rest, uint8_t& byte) {
  byte = static_cast<uint8_t>(rest[0]);
  rest.remove_prefix(1);
  if (byte != '\\') return true;
  const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
  if (rest.empty()) return false;
  if (!is_digit(rest[0])) {
    byte = static_cast<uint8_t>(rest[0]);
    rest.remove_prefix(1);
    return true;
  }
  if (rest.size() < 3 || !is_digit(rest[1]) || !is_digit(rest[2])) return false;
  const int value = (rest[0] - '0') * 100 + (rest[1] - '0') * 10 + (rest[2] - '0');
  if (value > 255) return false;
  byte = static_cast<uint8_t>(value);
  rest.remove_prefix(3);
  return true;
}

}  // namespace

absl::StatusOr<std::string> ReadDnsName(std::span<const uint8_t> message, size_t& offset, NameCompression compression) {
  std::string text;
  size_t at = offset;
  size_t labels_start = offset;
  size_t wire_bytes = 1;
  int pointers = 0;
  // Where the name ends in the message: behind the first pointer, or behind the root label.
  size_t end = 0;
  for (;;) {
    if (at >= message.size()) return ProtocolError("malformed DNS name: cut off");
    const uint8_t length = message[at];
    if ((length & kPointerBits) == kPointerBits) {
      if (compression == NameCompression::kForbidden) {
        return ProtocolError("malformed DNS name: compressed where it must not be");
      }
      if (message.size() - at < 2) return ProtocolError("malformed DNS name: cut off");
      const auto to = static_cast<size_t>((length & ~kPointerBits) << 8 | message[at + 1]);
      if (to >= labels_start) return ProtocolError("malformed DNS name: a pointer that does not point backward");
      if (++pointers > kDnsMaxPointers) return ProtocolError("malformed DNS name: too many pointers");
      if (end == 0) end = at + 2;
      at = labels_start = to;
      continue;
    }
    if ((length & kPointerBits) != 0) return ProtocolError("malformed DNS name: unknown label type");
    ++at;
    if (length == 0) break;
    if (message.size() - at < length) return ProtocolError("malformed DNS name: cut off");
    wire_bytes += 1U + length;
    if (wire_bytes > kDnsMaxNameBytes) return ProtocolError("malformed DNS name: longer than 255 bytes");
    if (!text.empty()) text += '.';
    AppendLabelText(message.subspan(at, length), text);
    at += length;
  }
  offset = end == 0 ? at : end;
  if (text.empty()) text = ".";
  return text;
}

absl::Status AppendDnsName(std::string_view name, std::vector<uint8_t>& out) {
  std::vector<uint8_t> wire;
  std::string_view rest = name == "." ? std::string_view() : name;
  if (name.empty()) return InvalidArgument("the empty string is not a domain name");
  while (!rest.empty()) {
    const size_t length_at = wire.size();
    wire.push_back(0);
    while (!rest.empty() && rest[0] != '.') {
      uint8_t byte = 0;
      if (!TakeByte(rest, byte)) return InvalidArgument("\"{}\" is not a domain name: malformed escape", name);
      wire.push_back(Lower(byte));
    }
    if (!rest.empty()) rest.remove_prefix(1);
    const size_t length = wire.size() - length_at - 1;
    if (length == 0 || length > kDnsMaxLabelBytes || wire.size() + 1 > kDnsMaxNameBytes) {
      return InvalidArgument("\"{}\" is not a domain name: labels have 1 to {} bytes, names at most {}", name,
                             kDnsMaxLabelBytes, kDnsMaxNameBytes);
    }
    wire[length_at] = static_cast<uint8_t>(length);
  }
  wire.push_back(0);
  AppendBytes(out, wire);
  return absl::OkStatus();
}

absl::StatusOr<std::string> CanonicalDnsName(std::string_view name) {
  std::vector<uint8_t> wire;
  TUNNEL_RETURN_IF_ERROR(AppendDnsName(name, wire));
  size_t offset = 0;
  return ReadDnsName(wire, offset, NameCompression::kForbidden);
}

}  // namespace tunnel::proto
