// The listener's side of SOCKS4, SOCKS4a and SOCKS5, from the first byte to the request.
#pragma once

#include <optional>

#include "net/byte_reader.h"
#include "net/config.h"
#include "proto/socks4.h"
#include "proto/socks5.h"

namespace tunnel::net {

// What the application asked for.
struct SocksRequest {
  uint8_t version = proto::kSocks5Version;  // or kSocks4Version
  proto::Socks5Command command = proto::Socks5Command::kConnect;
  proto::Target target;
  core::Slice first;  // bytes of the stream that came behind the request
};

// Negotiates on `stream`, whose handler `reader` is. nullopt: the application was refused, which it has been told where
// the protocol can say it, or it left; the stream is to be closed after what was sent. SOCKS4 has no password, so a
// listener with credentials refuses it.
[[nodiscard]] core::Task<std::optional<SocksRequest>> NegotiateSocks4(core::Reactor& reactor, ByteStream& stream,
                                                                      ByteReader& reader, const ListenSpec& spec);
[[nodiscard]] core::Task<std::optional<SocksRequest>> NegotiateSocks5(core::Reactor& reactor, ByteStream& stream,
                                                                      ByteReader& reader, const ListenSpec& spec);

// Answers a request: Ok says that it was granted.
void SendSocksReply(core::Reactor& reactor, ByteStream& stream, uint8_t version, const absl::Status& outcome);

}  // namespace tunnel::net
