// The server's side of SOCKS5 (RFC 1928) with user name and password (RFC 1929).
//
// A client may send its messages without waiting for ours, and after its request the application's bytes follow with
// no border: the decoder takes exactly the bytes of one message at a time and stops where the caller has to decide.
//
//   state      message    event      caller then
//   greeting   VER NM..   kMethods   SelectMethod(kNone | kUserPass | kNoAcceptable)
//   user/pass  VER UL..   kUserPass  Authenticate(true | false)
//   request    VER CMD..  kRequest   answers with EncodeSocks5Reply; the rest of the input is the stream's
//   any        malformed  kError     sends `reply` when there is one, closes
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "proto/codec_limits.h"
#include "proto/ip_address.h"
#include "proto/message_gatherer.h"
#include "proto/target.h"

namespace tunnel::proto {

inline constexpr uint8_t kSocks5Version = 5;
// RFC 1929 2.
inline constexpr uint8_t kSocks5AuthVersion = 1;

enum class Socks5Method : uint8_t { kNoAuth = 0, kUserPass = 2, kNoAcceptable = 0xff };

enum class Socks5Command : uint8_t { kConnect = 1, kUdpAssociate = 3 };

// RFC 1928 6.
enum class Socks5Reply : uint8_t {
  kSucceeded = 0,
  kGeneralFailure = 1,
  kNotAllowed = 2,
  kNetworkUnreachable = 3,
  kHostUnreachable = 4,
  kConnectionRefused = 5,
  kTtlExpired = 6,
  kCommandNotSupported = 7,
  kAddressTypeNotSupported = 8,
};

// Bytes to send: a value that owns them.
struct Socks5Bytes {
  std::array<uint8_t, kSocks5MaxReplyBytes> data{};
  size_t size = 0;

  std::span<const uint8_t> bytes() const { return std::span(data).first(size); }
};

Socks5Bytes EncodeSocks5Method(Socks5Method method);
// RFC 1929 2. After a failure the connection is to be closed.
Socks5Bytes EncodeSocks5Auth(bool ok);
// `bound` and `bound_port` are where the server's end of the stream is; all zero when that says nothing.
Socks5Bytes EncodeSocks5Reply(Socks5Reply reply, const IpAddress& bound = {}, uint16_t bound_port = 0);

struct Socks5Event {
  enum class Kind {
    kNeedMore,  // the fed bytes are all consumed: feed further ones
    kPaused,    // waits for SelectMethod or Authenticate, or the request has been handed out
    kMethods,
    kUserPass,
    kRequest,
    kError,  // final
  };
  Kind kind = Kind::kNeedMore;

  // kMethods
  bool offers_no_auth = false;
  bool offers_user_pass = false;
  // kUserPass: views into the decoder, until its next call. Arbitrary bytes.
  std::string_view user;
  std::string_view password;
  // kRequest. For kUdpAssociate the target is where the client says it will send from, often all zero.
  Socks5Command command = Socks5Command::kConnect;
  Target target;
  // kError: what to send before closing, perhaps nothing; and why, a literal.
  Socks5Bytes reply;
  std::string_view reason;
};

// Owner's thread only. Allocates nothing but the target's host.
class Socks5Server {
 public:
  // Hands over the next bytes of the connection, which must stay alive until they are consumed or the decoder is no
  // longer asked. The bytes fed before must have been consumed, all of them.
  void Feed(std::span<const uint8_t> input) { input_.Feed(input); }

  // The next event. After kError and kRequest it takes no more input.
  [[nodiscard]] Socks5Event Next();

  // How many of the bytes last fed have been taken. After kRequest the others belong to the stream.
  size_t consumed() const { return input_.consumed(); }

  // Answers kMethods; the caller sends EncodeSocks5Method(method). Only where kMethods was the last event.
  void SelectMethod(Socks5Method method);
  // Answers kUserPass; the caller sends EncodeSocks5Auth(ok). Only where kUserPass was the last event.
  void Authenticate(bool ok);

 private:
  enum class State : uint8_t { kGreeting, kAwaitMethod, kUserPass, kAwaitAuth, kRequest, kDone };

  Socks5Event Greeting();
  Socks5Event UserPass();
  Socks5Event Request();
  Socks5Event Fail(Socks5Bytes reply, std::string_view reason);
  void StartMessage(State state);

  State state_ = State::kGreeting;
  MessageGatherer<kSocks5MaxUserPassBytes> input_;
};

static_assert(kSocks5MaxGreetingBytes <= kSocks5MaxUserPassBytes && kSocks5MaxRequestBytes <= kSocks5MaxUserPassBytes);

}  // namespace tunnel::proto
