// What a channel carries, behind one interface: the legacy protocol now. A channel is one WebSocket and one carrier.
#pragma once

#include <string_view>

#include "net/web_socket.h"

namespace tunnel::net {

class Carrier : public WebSocket::Handler {
 public:
  virtual ~Carrier() = default;
  // "legacy"; for the log.
  [[nodiscard]] virtual std::string_view protocol() const = 0;
  // Streams on this channel now.
  [[nodiscard]] virtual size_t streams() const = 0;
};

}  // namespace tunnel::net
