// The client's side of SOCKS5 (RFC 1928) with user name and password (RFC 1929): what asks a proxy for a way out.
//
//   we send         proxy answers
//   VER NMETHODS..  VER METHOD           no authentication, and user and password where there are some
//   VER ULEN..      VER STATUS           only when the proxy chose that
//   VER CMD..       VER REP RSV ATYP..   what comes behind the reply is the stream's
//
// Each message waits for the answer to the one before: proxies that read with one call a message would lose the rest.
#pragma once

#include <absl/status/status.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "proto/codec_limits.h"
#include "proto/message_gatherer.h"
#include "proto/socks5.h"
#include "proto/target.h"
#include "proto/url.h"

namespace tunnel::proto {

struct Socks5ClientEvent {
  enum class Kind {
    kNeedMore,  // the fed bytes are all consumed: feed further ones
    kSend,      // `send` is to be sent, in order, then ask again
    kDone,      // final: the proxy granted the request
    kError,     // final: close the connection
  };
  Kind kind = Kind::kNeedMore;

  // kSend: a view into the codec, until its next call.
  std::span<const uint8_t> send;
  // kDone: BND.ADDR and BND.PORT, often all zero after CONNECT; after UDP ASSOCIATE where datagrams go to.
  Target bound;
  // kError: in words without the target, ProtocolError where the peer speaks no SOCKS5.
  absl::Status error;
  // kError: the proxy understood and could not or would not reach the target; the proxy itself works.
  bool refused = false;
};

// The status of a reply that refuses, with a code that tells refused (kUnavailable), not allowed (kPermissionDenied),
// timed out (kDeadlineExceeded) and not supported (kUnimplemented) apart. An unknown code is a general failure.
[[nodiscard]] absl::Status StatusOfReply(uint8_t reply);

// Owner's thread only. Allocates nothing but the bound host and messages of errors.
class Socks5Client {
 public:
  // `target` must pass IsValidHost, with a port for kConnect; a name goes as it is, for the proxy to resolve. For
  // kUdpAssociate it is where datagrams will come from, usually 0.0.0.0 port 0. `credentials`: a user of 1 to 255 and
  // a password of up to 255 bytes, copied.
  Socks5Client(Socks5Command command, const Target& target, const std::optional<Credentials>& credentials);

  // Hands over the next bytes of the connection, which must stay alive until they are consumed or the codec is no
  // longer asked. The bytes fed before must have been consumed, all of them.
  void Feed(std::span<const uint8_t> input) { input_.Feed(input); }
  // The next event; kSend comes first. Not to be called after kDone or kError.
  [[nodiscard]] Socks5ClientEvent Next();
  // How many of the bytes last fed have been taken. After kDone the others belong to the stream.
  [[nodiscard]] size_t consumed() const { return input_.consumed(); }

 private:
  enum class State : uint8_t { kStart, kMethod, kAuth, kReply, kDone };

  Socks5ClientEvent SendGreeting();
  Socks5ClientEvent SendUserPass();
  Socks5ClientEvent SendRequest();
  Socks5ClientEvent Method();
  Socks5ClientEvent Auth();
  Socks5ClientEvent Reply();
  Socks5ClientEvent Sent(State next, size_t size);
  Socks5ClientEvent Fail(absl::Status error, bool refused = false);

  const Socks5Command command_;
  const Target target_;
  const std::optional<Credentials> credentials_;
  State state_ = State::kStart;
  // A reply with the longest name is the longest answer.
  MessageGatherer<kSocks5MaxRequestBytes> input_;
  std::array<uint8_t, kSocks5MaxUserPassBytes> out_{};
};

static_assert(kSocks5MaxRequestBytes <= kSocks5MaxUserPassBytes);

}  // namespace tunnel::proto
