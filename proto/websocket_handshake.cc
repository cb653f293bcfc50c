#include "proto/websocket_handshake.h"

#include "proto/base64.h"
#include "proto/sha1.h"

namespace tunnel::proto {

std::string MakeWebSocketKey(std::span<const uint8_t, 16> random) { return Base64Encode(random); }

bool IsWebSocketKey(std::string_view key) {
  constexpr size_t kKeyChars = 24;
  if (key.size() != kKeyChars) return false;
  const auto bytes = Base64Decode(key);
  return bytes.has_value() && bytes->size() == 16;
}

std::string WebSocketAcceptFor(std::string_view key) {
  std::string text(key);
  text += "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";  // section 1.3
  return Base64Encode(Sha1({reinterpret_cast<const uint8_t*>(text.data()), text.size()}));
}

}  // namespace tunnel::proto
