#include "proto/socks5_client.h"

#include <algorithm>

#include "core/check.h"
#include "core/status.h"

namespace tunnel::proto {
namespace {

using Kind = Socks5ClientEvent::Kind;

constexpr uint8_t kAuthVersion = 1;
constexpr uint8_t kAtypV4 = 1;
constexpr uint8_t kAtypName = 3;
constexpr uint8_t kAtypV6 = 4;
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

void Socks5Client::Feed(std::span<const uint8_t> input) {
  TUNNEL_CHECK(consumed_ == input_.size());
  input_ = input;
  consumed_ = 0;
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

bool Socks5Client::Gather(size_t bytes) {
  TUNNEL_CHECK(bytes <= message_.size());
  if (size_ >= bytes) return true;
  const size_t taken = std::min(bytes - size_, input_.size() - consumed_);
  std::copy_n(input_.begin() + static_cast<ptrdiff_t>(consumed_), taken,
              message_.begin() + static_cast<ptrdiff_t>(size_));
  size_ += taken;
  consumed_ += taken;
  return size_ == bytes;
}

Socks5ClientEvent Socks5Client::Sent(State next, size_t size) {
  state_ = next;
  size_ = 0;
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
  out_[0] = kAuthVersion;
  const size_t end = Append(out_, Append(out_, 1, credentials_->user), credentials_->password);
  return Sent(State::kAuth, end);
}

Socks5ClientEvent Socks5Client::SendRequest() {
  out_[0] = kSocks5Version;
  out_[1] = static_cast<uint8_t>(command_);
  out_[2] = 0;
  size_t end = 4;
  if (const std::optional<IpAddress> address = ParseIpAddress(target_.host)) {
    out_[3] = address->v6 ? kAtypV6 : kAtypV4;
    const std::span<const uint8_t> octets = address->octets();
    std::copy(octets.begin(), octets.end(), out_.begin() + static_cast<ptrdiff_t>(end));
    end += octets.size();
  } else {
    out_[3] = kAtypName;
    end = Append(out_, end, target_.host);
  }
  out_[end++] = static_cast<uint8_t>(target_.port >> 8);
  out_[end++] = static_cast<uint8_t>(target_.port);
  return Sent(State::kReply, end);
}

// VER METHOD
Socks5ClientEvent Socks5Client::Method() {
  if (!Gather(1)) return {};
  if (message_[0] != kSocks5Version) return Fail(ProtocolError("it does not speak SOCKS5"));
  if (!Gather(2)) return {};
  switch (static_cast<Socks5Method>(message_[1])) {
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
  return Fail(ProtocolError("the proxy chose authentication method {}, which was not offered", message_[1]));
}

// VER STATUS
Socks5ClientEvent Socks5Client::Auth() {
  if (!Gather(1)) return {};
  if (message_[0] != kAuthVersion) return Fail(ProtocolError("the answer to user and password has another version"));
  if (!Gather(2)) return {};
  if (message_[1] != 0) return Fail(PermissionDenied("the proxy does not accept the user and the password"));
  return SendRequest();
}

// VER REP RSV ATYP BND.ADDR BND.PORT. A refusal is one as soon as REP is there: proxies send what they like behind it.
Socks5ClientEvent Socks5Client::Reply() {
  if (!Gather(1)) return {};
  if (message_[0] != kSocks5Version) return Fail(ProtocolError("the proxy's reply is not SOCKS5"));
  if (!Gather(2)) return {};
  if (message_[1] != 0) return Fail(StatusOfReply(message_[1]), true);
  if (!Gather(4)) return {};
  if (message_[2] != 0) return Fail(ProtocolError("the reserved byte of the proxy's reply is not zero"));
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
      return Fail(ProtocolError("the proxy's reply has an unknown type of address"));
  }
  const size_t port_at = address_at + address_size;
  if (!Gather(port_at + 2)) return {};
  const auto address = std::span<const uint8_t>(message_).subspan(address_at, address_size);
  Socks5ClientEvent event{.kind = Kind::kDone};
  if (message_[3] == kAtypV4) {
    event.bound.host = ToString(IpAddress::V4(address.first<4>()));
  } else if (message_[3] == kAtypV6) {
    event.bound.host = ToString(IpAddress::V6(address.first<16>()));
  } else {
    event.bound.host.assign(address.begin(), address.end());
    if (!IsValidHost(event.bound.host)) return Fail(ProtocolError("the proxy's reply has a host that is none"));
  }
  event.bound.port = static_cast<uint16_t>(message_[port_at] << 8 | message_[port_at + 1]);
  state_ = State::kDone;
  return event;
}

}  // namespace tunnel::proto
