#include "proto/socks5.h"

#include <algorithm>

#include "core/check.h"

namespace tunnel::proto {
namespace {

constexpr uint8_t kAuthVersion = 1;
constexpr uint8_t kAtypV4 = 1;
constexpr uint8_t kAtypName = 3;
constexpr uint8_t kAtypV6 = 4;

template <typename... Bytes>
Socks5Bytes Make(Bytes... bytes) {
  return {.data = {static_cast<uint8_t>(bytes)...}, .size = sizeof...(bytes)};
}

std::string_view Text(std::span<const uint8_t> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace

Socks5Bytes EncodeSocks5Method(Socks5Method method) { return Make(kSocks5Version, method); }

Socks5Bytes EncodeSocks5Auth(bool ok) { return Make(kAuthVersion, ok ? 0 : 1); }

Socks5Bytes EncodeSocks5Reply(Socks5Reply reply, const IpAddress& bound, uint16_t bound_port) {
  Socks5Bytes out = Make(kSocks5Version, reply, 0, bound.v6 ? kAtypV6 : kAtypV4);
  const std::span<const uint8_t> octets = bound.octets();
  std::copy(octets.begin(), octets.end(), out.data.begin() + 4);
  out.size += octets.size();
  out.data[out.size++] = static_cast<uint8_t>(bound_port >> 8);
  out.data[out.size++] = static_cast<uint8_t>(bound_port);
  return out;
}

void Socks5Server::Feed(std::span<const uint8_t> input) {
  TUNNEL_CHECK(consumed_ == input_.size());
  input_ = input;
  consumed_ = 0;
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
  size_ = 0;
}

bool Socks5Server::Gather(size_t bytes) {
  TUNNEL_CHECK(bytes <= message_.size());
  if (size_ >= bytes) return true;
  const size_t taken = std::min(bytes - size_, input_.size() - consumed_);
  std::copy_n(input_.begin() + static_cast<ptrdiff_t>(consumed_), taken,
              message_.begin() + static_cast<ptrdiff_t>(size_));
  size_ += taken;
  consumed_ += taken;
  return size_ == bytes;
}

Socks5Event Socks5Server::Fail(Socks5Bytes reply, std::string_view reason) {
  state_ = State::kDone;
  return {.kind = Socks5Event::Kind::kError, .reply = reply, .reason = reason};
}

// VER NMETHODS METHODS...
Socks5Event Socks5Server::Greeting() {
  if (!Gather(1)) return {};
  if (message_[0] != kSocks5Version) return Fail({}, "not SOCKS version 5");
  if (!Gather(2)) return {};
  const size_t methods = message_[1];
  if (methods == 0) return Fail(EncodeSocks5Method(Socks5Method::kNoAcceptable), "no authentication method offered");
  if (!Gather(2 + methods)) return {};
  const auto offered = std::span(message_).subspan(2, methods);
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
  if (!Gather(1)) return {};
  if (message_[0] != kAuthVersion) return Fail(EncodeSocks5Auth(false), "not version 1 of user name and password");
  if (!Gather(2)) return {};
  const size_t user_size = message_[1];
  if (user_size == 0) return Fail(EncodeSocks5Auth(false), "empty user name");
  if (!Gather(2 + user_size + 1)) return {};
  const size_t password_size = message_[2 + user_size];
  if (!Gather(2 + user_size + 1 + password_size)) return {};
  state_ = State::kAwaitAuth;
  return {.kind = Socks5Event::Kind::kUserPass,
          .user = Text(std::span(message_).subspan(2, user_size)),
          .password = Text(std::span(message_).subspan(2 + user_size + 1, password_size))};
}

// VER CMD RSV ATYP DST.ADDR DST.PORT. Read to its end where its end is known, before any of it is refused: a close
// with bytes unread would reset the connection and could take our reply with it.
Socks5Event Socks5Server::Request() {
  if (!Gather(1)) return {};
  if (message_[0] != kSocks5Version) return Fail({}, "the request is not SOCKS version 5");
  if (!Gather(4)) return {};
  size_t address_at = 4;
  size_t address_size = 0;
  switch (message_[3]) {
    case kAtypV4:
      address_size = 4;
      break;
    case kAtypV6:
      address_size = 16;
      break;
    case kAtypName:
      if (!Gather(5)) return {};
      address_at = 5;
      address_size = message_[4];
      break;
    default:
      return Fail(EncodeSocks5Reply(Socks5Reply::kAddressTypeNotSupported), "unknown address type");
  }
  if (!Gather(address_at + address_size + 2)) return {};

  if (message_[2] != 0) return Fail(EncodeSocks5Reply(Socks5Reply::kGeneralFailure), "the reserved byte is not zero");
  const auto command = static_cast<Socks5Command>(message_[1]);
  if (command != Socks5Command::kConnect && command != Socks5Command::kUdpAssociate) {
    return Fail(EncodeSocks5Reply(Socks5Reply::kCommandNotSupported), "unknown command");
  }
  const auto address = std::span<const uint8_t>(message_).subspan(address_at, address_size);
  Socks5Event event{.kind = Socks5Event::Kind::kRequest, .command = command};
  if (message_[3] == kAtypV4) {
    event.target.host = ToString(IpAddress::V4(address.first<4>()));
  } else if (message_[3] == kAtypV6) {
    event.target.host = ToString(IpAddress::V6(address.first<16>()));
  } else {
    if (!IsValidHost(Text(address))) {
      return Fail(EncodeSocks5Reply(Socks5Reply::kGeneralFailure), "the host name is not valid");
    }
    event.target.host = std::string(Text(address));
  }
  const size_t port_at = address_at + address_size;
  event.target.port = static_cast<uint16_t>(message_[port_at] << 8 | message_[port_at + 1]);
  if (event.target.port == 0 && command == Socks5Command::kConnect) {
    return Fail(EncodeSocks5Reply(Socks5Reply::kGeneralFailure), "port 0");
  }
  state_ = State::kDone;
  return event;
}

}  // namespace tunnel::proto
