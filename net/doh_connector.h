// How the DoH client gets its connections, so that it holds neither sockets nor TLS itself.
#pragma once

#include <memory>
#include <string>

#include "core/task.h"
#include "net/byte_stream.h"

namespace tunnel::net {

struct DohConnection {
  std::unique_ptr<ByteStream> stream;  // TLS, handshake done, the resolver's certificate verified
  std::string alpn;                    // "h2", "http/1.1", or empty when the server chose none
};

class DohConnector {
 public:
  // Connects to the resolver's host and port, offering "h2" and "http/1.1". Fails with words that name the resolver.
  [[nodiscard]] virtual core::Task<absl::StatusOr<DohConnection>> Connect(std::string host, uint16_t port) = 0;

 protected:
  ~DohConnector() = default;
};

}  // namespace tunnel::net
