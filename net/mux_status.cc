#include "net/mux_status.h"

#include "core/io_error.h"
#include "net/proxy_replies.h"

namespace tunnel::net {

using proto::MuxResetCode;
using proto::Socks5Reply;

uint8_t MuxStatusOf(const absl::Status& failure) { return static_cast<uint8_t>(ReplyFor(failure).socks5); }

absl::Status FailureOf(uint8_t mux_status) {
  switch (static_cast<Socks5Reply>(mux_status)) {
    case Socks5Reply::kNotAllowed:
      return PermissionDenied("the server does not allow the target");
    case Socks5Reply::kNetworkUnreachable:
      return core::ToStatus(core::IoError::kNetworkUnreachable, "target");
    case Socks5Reply::kHostUnreachable:
      return core::ToStatus(core::IoError::kUnreachable, "target");
    case Socks5Reply::kConnectionRefused:
      return core::ToStatus(core::IoError::kRefused, "target");
    case Socks5Reply::kTtlExpired:
      return DeadlineExceeded("the target did not answer in time");
    case Socks5Reply::kCommandNotSupported:
      return MakeStatus(absl::StatusCode::kUnimplemented, "the server cannot do this");
    case Socks5Reply::kAddressTypeNotSupported:
      return InvalidArgument("the server cannot reach this kind of address");
    case Socks5Reply::kSucceeded:
    case Socks5Reply::kGeneralFailure:
      break;
  }
  return ResourceExhausted("the server could not open the stream");
}

absl::Status StatusOfReset(uint32_t code, std::string_view reason) {
  std::string_view words = "aborted";
  switch (static_cast<MuxResetCode>(code)) {
    case MuxResetCode::kFlowControl:
      words = "we sent more than was allowed";
      break;
    case MuxResetCode::kExpired:
      words = "without a channel for too long";
      break;
    case MuxResetCode::kUnknown:
      words = "the peer does not know the stream any more";
      break;
    case MuxResetCode::kOverload:
      words = "the peer is over a bound of its own";
      break;
    case MuxResetCode::kProtocol:
      words = "we broke the protocol";
      break;
    case MuxResetCode::kAborted:
      break;
  }
  return MakeStatus(absl::StatusCode::kAborted, "reset by the peer: {}{}{}", words, reason.empty() ? "" : ": ", reason);
}

}  // namespace tunnel::net
