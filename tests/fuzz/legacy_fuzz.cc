// The first byte chooses role and opcode, the rest is one message. However it is cut, the decoder must say the same;
// and the head it found, written again, must be the bytes it was read from.
#include <cstddef>
#include <cstdint>
#include <string>

#include "tests/unit/proto/legacy_transcript.h"

// Where the sender of a server's UDP_DATA begins.
constexpr size_t kUdpDataHostAt = 9 + tunnel::proto::kConnectionIdBytes + 1;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tunnel::proto;
  if (size == 0) return 0;
  const Role role = (data[0] & 1) != 0 ? Role::kClient : Role::kServer;
  const Opcode opcode = (data[0] & 2) != 0 ? Opcode::kBinary : Opcode::kText;
  const std::string message(reinterpret_cast<const char*>(data) + 1, size - 1);

  LegacyDecoder decoder(role);
  LegacyResult result = ReadLegacy(decoder, opcode, message, 0);
  TUNNEL_CHECK(ReadLegacy(decoder, opcode, message, 1) == result);
  TUNNEL_CHECK(ReadLegacy(decoder, opcode, message, 2 + (data[0] >> 2)) == result);
  if (result.malformed) return 0;

  result.head.host = result.host;
  result.head.text = result.text;
  uint8_t out[kMaxLegacyHeadBytes];
  const auto head_bytes = EncodeLegacyHead(out, PeerOf(role), result.head);
  TUNNEL_CHECK(head_bytes.has_value());
  const std::string again = AsString({out, *head_bytes}) + result.payload;
  if (result.text.size() == kMaxLegacyTextBytes) {
    TUNNEL_CHECK(message.starts_with(again));  // a longer text was cut
  } else if (result.head.type == LegacyType::kUdpData && role == Role::kClient && message[kUdpDataHostAt] == '[') {
    TUNNEL_CHECK(message.size() == again.size() + 2);  // brackets where they are not written
  } else {
    TUNNEL_CHECK(again == message);
  }
  return 0;
}
