#include "proto/socks5_client.h"

#include <algorithm>

#include "core/check.h"
#include "core/status.h"
#include "proto/socks5_address.h"

namespace tunnel::proto {
namespace {

using Kind = Socks5ClientEvent::Kind;

constexpr size_t kMaxCredentialBytes = 255;

size_t Append(std::span<uint8_t> out, size_t at, std::string_view text) {
  out[at] = static_cast<uint8_t>(text.size());
  std::copy(text.begin(), text.end(), out.begin() + static_cast<ptrdiff_t>(at) + 1);
  return at + 1 + text.size();
}

}  // namespace

absl::Status StatusOfReply(uint8_t reply) {
  switch (static_cast<Socks5Reply>(reply)) {
    case Socks5Reply::kSucceeded:
      return absl::OkStatus();
    case Socks5Reply::kNotAllowed:
      return PermissionDenied("the proxy's rules do not allow the target");
    case Socks5Reply::kNetworkUnreachable:
      return Unavailable("the proxy says: network unreachable");
    case Socks5Reply::kHostUnreachable:
      return Unavailable("the proxy says: host unreachable");
    case Socks5Reply::kConnectionRefused:
      return Unavailable("the proxy says: connection refused");
    case Socks5Reply::kTtlExpired:
      return DeadlineExceeded("the proxy says: TTL expired");
    case Socks5Reply::kCommandNotSupported:
      return MakeStatus(absl::StatusCode::kUnimplemented, "the proxy does not support this command");
    case Socks5Reply::kAddressTypeNotSupported:
      return MakeStatus(absl::StatusCode::kUnimplemented, "the proxy does not support this type of address");
    case Socks5Reply::kGeneralFailure:
      break;
  }
  return Unavailable("the proxy says: general failure (reply {})", reply);
}

Socks5Client::Socks5Client(Socks5Command command, const Target& target, const std::optional<Credentials>& credentials)
    : command_(command), target_(target), credentials_(credentials) {
  TUNNEL_CHECK(IsValidHost(target_.host));
  TUNNEL_CHECK(command_ == Socks5Command::kUdpAssociate || target_.port != 0);
  TUNNEL_CHECK(!credentials_.has_value() ||
               (!credentials_->user.empty() && credentials_->user.size() <= kMaxCredentialBytes &&
                credentials_->password.size() <= kMaxCredentialBytes));
}

Socks5ClientEvent Socks5Client::Next() {
  switch (state_) {
    case State::kStart:
      return SendGreeting();
    case State::kMethod:
      return Method();
    case State::kAuth:
      return Auth();
    case State::kReply:
      return Reply();
    case State::kDone:
      break;
  }
  TUNNEL_CHECK(false);
}

Socks5ClientEvent Socks5Client::Sent(State next, size_t size) {
  state_ = next;
  input_.StartMessage();
  return {.kind = Kind::kSend, .send = std::span(out_).first(size)};
}

Socks5ClientEvent Socks5Client::Fail(absl::Status error, bool refused) {
  state_ = State::kDone;
  return {.kind = Kind::kError, .error = std::move(error), .refused = refused};
}

Socks5ClientEvent Socks5Client::SendGreeting() {
  out_[0] = kSocks5Version;
  out_[1] = credentials_.has_value() ? 2 : 1;
  out_[2] = static_cast<uint8_t>(Socks5Method::kNoAuth);
  out_[3] = static_cast<uint8_t>(Socks5Method::kUserPass);
  return Sent(State::kMethod, 2UL + out_[1]);
}

Socks5ClientEvent Socks5Client::SendUserPass() {
  out_[0] = kSocks5AuthVersion;
  const size_t end = Append(out_, Append(out_, 1, credentials_->user), credentials_->password);
  return Sent(State::kAuth, end);
}

Socks5ClientEvent Socks5Client::SendRequest() {
  out_[0] = kSocks5Version;
  out_[1] = static_cast<uint8_t>(command_);
  out_[2] = 0;
  const size_t address_bytes = WriteSocks5Address(std::span(out_).subspan(kSocks5AddressAt), target_);
  return Sent(State::kReply, kSocks5AddressAt + address_bytes);
}

// VER METHOD
Socks5ClientEvent Socks5Client::Method() {
  const auto message = input_.message();
  if (!input_.Gather(1)) return {};
  if (message[0] != kSocks5Version) return Fail(ProtocolError("it does not speak SOCKS5"));
  if (!input_.Gather(2)) return {};
  switch (static_cast<Socks5Method>(message[1])) {
    case Socks5Method::kNoAuth:
      return SendRequest();
    case Socks5Method::kUserPass:
      if (credentials_.has_value()) return SendUserPass();
      break;
    case Socks5Method::kNoAcceptable:
      return Fail(PermissionDenied("the proxy takes {}", credentials_.has_value()
                                                             ? "neither a password nor none"
                                                             : "no connection without a user and a password"));
  }
  return Fail(ProtocolError("the proxy chose authentication method {}, which was not offered", message[1]));
}

// VER STATUS
Socks5ClientEvent Socks5Client::Auth() {
  const auto message = input_.message();
  if (!input_.Gather(1)) return {};
  if (message[0] != kSocks5AuthVersion)
    return Fail(ProtocolError("the answer to user and password has another version"));
  if (!input_.Gather(2)) return {};
  if (message[1] != 0) return Fail(PermissionDenied("the proxy does not accept the user and the password"));
  return SendRequest();
}

// VER REP RSV ATYP BND.ADDR BND.PORT. A refusal is one as soon as REP is there: proxies send what they like behind it.
Socks5ClientEvent Socks5Client::Reply() {
  const auto message = input_.message();
  if (!input_.Gather(1)) return {};
  if (message[0] != kSocks5Version) return Fail(ProtocolError("the proxy's reply is not SOCKS5"));
  if (!input_.Gather(2)) return {};
  if (message[1] != 0) return Fail(StatusOfReply(message[1]), true);
  if (!input_.Gather(4)) return {};
  if (message[2] != 0) return Fail(ProtocolError("the reserved byte of the proxy's reply is not zero"));
  if (!IsSocks5AddressType(message[3])) return Fail(ProtocolError("the proxy's reply has an unknown type of address"));
  if (!input_.Gather(kSocks5AddressAt + kSocks5AddressStartBytes)) return {};
  const size_t address_size = Socks5AddressBytes(message.subspan<kSocks5AddressAt, kSocks5AddressStartBytes>());
  if (!input_.Gather(kSocks5AddressAt + address_size)) return {};
  Socks5ClientEvent event{.kind = Kind::kDone};
  if (!ReadSocks5Address(message.subspan(kSocks5AddressAt, address_size), event.bound)) {
    return Fail(ProtocolError("the proxy's reply has a host that is none"));
  }
  state_ = State::kDone;
  return event;
}

}  // namespace tunnel::proto
