#include "proto/websocket_encoder.h"

#include <array>
#include <cstring>

#include "core/check.h"
#include "proto/utf8.h"

namespace tunnel::proto {
namespace {

size_t LengthBytes(uint64_t payload_bytes) {
  return payload_bytes <= kMax7BitPayloadBytes ? 0 : payload_bytes <= kMax16BitPayloadBytes ? 2 : 8;
}

size_t EncodeControl(std::span<uint8_t> out, Role role, Opcode opcode, std::span<const uint8_t> payload,
                     const MaskKey& mask_key) {
  const size_t header_bytes = EncodeFrameHeader(out, role, opcode, true, payload.size(), mask_key);
  TUNNEL_CHECK(out.size() - header_bytes >= payload.size());
  if (payload.empty()) return header_bytes;
  if (role == Role::kClient) {
    CopyMasked(out.data() + header_bytes, payload, mask_key, 0);
  } else {
    std::memcpy(out.data() + header_bytes, payload.data(), payload.size());
  }
  return header_bytes + payload.size();
}

}  // namespace

size_t FrameHeaderBytes(Role role, uint64_t payload_bytes) {
  return kMinFrameHeaderBytes + LengthBytes(payload_bytes) + (role == Role::kClient ? sizeof(MaskKey) : 0);
}

size_t EncodeFrameHeader(std::span<uint8_t> out, Role role, Opcode opcode, bool fin, uint64_t payload_bytes,
                         const MaskKey& mask_key) {
  TUNNEL_CHECK(payload_bytes <= kMax64BitPayloadBytes);
  TUNNEL_CHECK(!IsControl(opcode) || (fin && payload_bytes <= kMaxControlPayloadBytes));
  const size_t header_bytes = FrameHeaderBytes(role, payload_bytes);
  TUNNEL_CHECK(out.size() >= header_bytes);

  const size_t length_bytes = LengthBytes(payload_bytes);
  const uint64_t length = length_bytes == 0 ? payload_bytes : length_bytes == 2 ? 126 : 127;
  out[0] = static_cast<uint8_t>((fin ? 0x80 : 0) | static_cast<uint8_t>(opcode));
  out[1] = static_cast<uint8_t>((role == Role::kClient ? 0x80 : 0) | length);
  for (size_t i = 0; i < length_bytes; ++i) {
    out[kMinFrameHeaderBytes + i] = static_cast<uint8_t>(payload_bytes >> (8 * (length_bytes - 1 - i)));
  }
  if (role == Role::kClient) {
    std::memcpy(out.data() + kMinFrameHeaderBytes + length_bytes, mask_key.data(), mask_key.size());
  }
  return header_bytes;
}

size_t EncodePing(std::span<uint8_t> out, Role role, std::span<const uint8_t> payload, const MaskKey& mask_key) {
  return EncodeControl(out, role, Opcode::kPing, payload, mask_key);
}

size_t EncodePong(std::span<uint8_t> out, Role role, std::span<const uint8_t> payload, const MaskKey& mask_key) {
  return EncodeControl(out, role, Opcode::kPong, payload, mask_key);
}

size_t EncodeClose(std::span<uint8_t> out, Role role, uint16_t code, std::string_view reason, const MaskKey& mask_key) {
  if (code == kCloseNoStatus) return EncodeControl(out, role, Opcode::kClose, {}, mask_key);
  TUNNEL_CHECK(IsWireCloseCode(code));
  std::array<uint8_t, kMaxControlPayloadBytes> payload;
  payload[0] = static_cast<uint8_t>(code >> 8);
  payload[1] = static_cast<uint8_t>(code);
  const size_t reason_bytes = Utf8PrefixBytes(reason, kMaxCloseReasonBytes);
  if (reason_bytes > 0) std::memcpy(payload.data() + 2, reason.data(), reason_bytes);
  return EncodeControl(out, role, Opcode::kClose, std::span<const uint8_t>(payload).first(2 + reason_bytes), mask_key);
}

}  // namespace tunnel::proto
