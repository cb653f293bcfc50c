#include "proto/socks5.h"

#include <algorithm>

#include "core/check.h"
#include "proto/socks5_address.h"

namespace tunnel::proto {
namespace {

template <typename... Bytes>
Socks5Bytes Make(Bytes... bytes) {
  return {.data = {static_cast<uint8_t>(bytes)...}, .size = sizeof...(bytes)};
}

std::string_view Text(std::span<const uint8_t> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace

Socks5Bytes EncodeSocks5Method(Socks5Method method) { return Make(kSocks5Version, method); }

Socks5Bytes EncodeSocks5Auth(bool ok) { return Make(kSocks5AuthVersion, ok ? 0 : 1); }

Socks5Bytes EncodeSocks5Reply(Socks5Reply reply, const IpAddress& bound, uint16_t bound_port) {
  Socks5Bytes out = Make(kSocks5Version, reply, 0);
  out.size += WriteSocks5Address(std::span(out.data).subspan(out.size), bound, bound_port);
  return out;
}

Socks5Event Socks5Server::Next() {
  switch (state_) {
    case State::kGreeting:
      return Greeting();
    case State::kUserPass:
      return UserPass();
    case State::kRequest:
      return Request();
    case State::kAwaitMethod:
    case State::kAwaitAuth:
    case State::kDone:
      break;
  }
  return {.kind = Socks5Event::Kind::kPaused};
}

void Socks5Server::SelectMethod(Socks5Method method) {
  TUNNEL_CHECK(state_ == State::kAwaitMethod);
  switch (method) {
    case Socks5Method::kNoAuth:
      return StartMessage(State::kRequest);
    case Socks5Method::kUserPass:
      return StartMessage(State::kUserPass);
    case Socks5Method::kNoAcceptable:
      return StartMessage(State::kDone);
  }
}

void Socks5Server::Authenticate(bool ok) {
  TUNNEL_CHECK(state_ == State::kAwaitAuth);
  StartMessage(ok ? State::kRequest : State::kDone);
}

void Socks5Server::StartMessage(State state) {
  state_ = state;
  input_.StartMessage();
}

Socks5Event Socks5Server::Fail(Socks5Bytes reply, std::string_view reason) {
  state_ = State::kDone;
  return {.kind = Socks5Event::Kind::kError, .reply = reply, .reason = reason};
}

// VER NMETHODS METHODS...
Socks5Event Socks5Server::Greeting() {
  const auto message = input_.message();
  if (!input_.Gather(1)) return {};
  if (message[0] != kSocks5Version) return Fail({}, "not SOCKS version 5");
  if (!input_.Gather(2)) return {};
  const size_t methods = message[1];
  if (methods == 0) return Fail(EncodeSocks5Method(Socks5Method::kNoAcceptable), "no authentication method offered");
  if (!input_.Gather(2 + methods)) return {};
  const auto offered = message.subspan(2, methods);
  const auto offers = [&offered](Socks5Method method) {
    return std::find(offered.begin(), offered.end(), static_cast<uint8_t>(method)) != offered.end();
  };
  state_ = State::kAwaitMethod;
  return {.kind = Socks5Event::Kind::kMethods,
          .offers_no_auth = offers(Socks5Method::kNoAuth),
          .offers_user_pass = offers(Socks5Method::kUserPass)};
}

// VER ULEN UNAME PLEN PASSWD. RFC 1929 has at least one byte of password; curl sends none for an empty one.
Socks5Event Socks5Server::UserPass() {
  const auto message = input_.message();
  if (!input_.Gather(1)) return {};
  if (message[0] != kSocks5AuthVersion) return Fail(EncodeSocks5Auth(false), "not version 1 of user name and password");
  if (!input_.Gather(2)) return {};
  const size_t user_size = message[1];
  if (user_size == 0) return Fail(EncodeSocks5Auth(false), "empty user name");
  if (!input_.Gather(2 + user_size + 1)) return {};
  const size_t password_size = message[2 + user_size];
  if (!input_.Gather(2 + user_size + 1 + password_size)) return {};
  state_ = State::kAwaitAuth;
  return {.kind = Socks5Event::Kind::kUserPass,
          .user = Text(message.subspan(2, user_size)),
          .password = Text(message.subspan(2 + user_size + 1, password_size))};
}

// VER CMD RSV ATYP DST.ADDR DST.PORT. Read to its end where its end is known, before any of it is refused: a close
// with bytes unread would reset the connection and could take our reply with it.
Socks5Event Socks5Server::Request() {
  const auto message = input_.message();
  if (!input_.Gather(1)) return {};
  if (message[0] != kSocks5Version) return Fail({}, "the request is not SOCKS version 5");
  if (!input_.Gather(4)) return {};
  if (!IsSocks5AddressType(message[3])) {
    return Fail(EncodeSocks5Reply(Socks5Reply::kAddressTypeNotSupported), "unknown address type");
  }
  if (!input_.Gather(kSocks5AddressAt + kSocks5AddressStartBytes)) return {};
  const size_t address_size = Socks5AddressBytes(message.subspan<kSocks5AddressAt, kSocks5AddressStartBytes>());
  if (!input_.Gather(kSocks5AddressAt + address_size)) return {};

  if (message[2] != 0) return Fail(EncodeSocks5Reply(Socks5Reply::kGeneralFailure), "the reserved byte is not zero");
  const auto command = static_cast<Socks5Command>(message[1]);
  if (command != Socks5Command::kConnect && command != Socks5Command::kUdpAssociate) {
    return Fail(EncodeSocks5Reply(Socks5Reply::kCommandNotSupported), "unknown command");
  }
  Socks5Event event{.kind = Socks5Event::Kind::kRequest, .command = command};
  if (!ReadSocks5Address(message.subspan(kSocks5AddressAt, address_size), event.target)) {
    return Fail(EncodeSocks5Reply(Socks5Reply::kGeneralFailure), "the host name is not valid");
  }
  if (event.target.port == 0 && command == Socks5Command::kConnect) {
    return Fail(EncodeSocks5Reply(Socks5Reply::kGeneralFailure), "port 0");
  }
  state_ = State::kDone;
  return event;
}

}  // namespace tunnel::proto
