#include "net/proxy_replies.h"

#include "core/check.h"
#include "core/io_error.h"

namespace tunnel::net {
namespace {

using core::IoError;
using proto::Socks5Reply;

ProxyReply Reply(Socks5Reply socks5, int http_status, std::string_view words) {
  return {.socks5 = socks5, .http_status = http_status, .words = words};
}

// An unavailable target, by what its socket said.
ProxyReply ReplyForUnavailable(IoError error) {
  switch (error) {
    case IoError::kRefused:
      return Reply(Socks5Reply::kConnectionRefused, 502, "the target refused the connection");
    case IoError::kNetworkUnreachable:
      return Reply(Socks5Reply::kNetworkUnreachable, 502, "the target's network is unreachable");
    case IoError::kUnreachable:
      return Reply(Socks5Reply::kHostUnreachable, 502, "the target is unreachable");
    default:
      return Reply(Socks5Reply::kHostUnreachable, 502, "the target could not be reached");
  }
}

std::string_view ReasonPhrase(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 403:
      return "Forbidden";
    case 407:
      return "Proxy Authentication Required";
    case 414:
      return "URI Too Long";
    case 431:
      return "Request Header Fields Too Large";
    case 501:
      return "Not Implemented";
    case 502:
      return "Bad Gateway";
    case 504:
      return "Gateway Timeout";
    case 505:
      return "HTTP Version Not Supported";
    default:
      return "Bad Request";
  }
}

}  // namespace

ProxyReply ReplyFor(const absl::Status& failure) {
  TUNNEL_CHECK(!failure.ok());
  switch (failure.code()) {
    case absl::StatusCode::kPermissionDenied:
      return Reply(Socks5Reply::kNotAllowed, 403, "the target is not allowed");
    case absl::StatusCode::kNotFound:
      // RFC 1928 has no code for a name that does not exist; this one is what other proxies use.
      return Reply(Socks5Reply::kHostUnreachable, 502, "the target's name does not exist");
    case absl::StatusCode::kDeadlineExceeded:
      return Reply(Socks5Reply::kTtlExpired, 504, "the target did not answer in time");
    case absl::StatusCode::kUnavailable:
      return ReplyForUnavailable(core::IoErrorOf(failure));
    case absl::StatusCode::kFailedPrecondition:
      return Reply(Socks5Reply::kGeneralFailure, 502, "the tunnel is not connected");
    case absl::StatusCode::kAborted:
      return Reply(Socks5Reply::kGeneralFailure, 502, "the tunnel was lost");
    case absl::StatusCode::kResourceExhausted:
      return Reply(Socks5Reply::kGeneralFailure, 502, "the tunnel carries as much as it may");
    case absl::StatusCode::kInvalidArgument:
      return Reply(Socks5Reply::kGeneralFailure, 502, "the tunnel cannot carry this target");
    case absl::StatusCode::kUnimplemented:
      return Reply(Socks5Reply::kCommandNotSupported, 501, "the tunnel cannot do this");
    default:
      return Reply(Socks5Reply::kGeneralFailure, 502, "the tunnel failed");
  }
}

std::string HttpAnswer(int status, std::string_view words, AfterAnswer after, std::string_view extra) {
  const std::string_view reason = ReasonPhrase(status);
  const std::string body = fmt::format("{} {}: {}\n", status, reason, words);
  return fmt::format("HTTP/1.1 {} {}\r\n{}Content-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n{}\r\n{}",
                     status, reason, extra, body.size(),
                     after == AfterAnswer::kClose ? "Connection: close\r\n" : std::string_view(), body);
}

}  // namespace tunnel::net
