#include "net/proxy_replies.h"

#include <gtest/gtest.h>

#include "core/io_error.h"

namespace tunnel::net {
namespace {

using core::IoError;
using proto::Socks5Reply;

TEST(ProxyReplies, TellFailuresApart) {
  const struct {
    absl::Status failure;
    Socks5Reply socks5;
    int http;
  } cases[] = {
      {core::ToStatus(IoError::kRefused, "a"), Socks5Reply::kConnectionRefused, 502},
      {core::ToStatus(IoError::kUnreachable, "a"), Socks5Reply::kHostUnreachable, 502},
      {core::ToStatus(IoError::kNetworkUnreachable, "a"), Socks5Reply::kNetworkUnreachable, 502},
      {core::ToStatus(IoError::kTimedOut, "a"), Socks5Reply::kTtlExpired, 504},
      {core::ToStatus(IoError::kDenied, "a"), Socks5Reply::kNotAllowed, 403},
      {core::ToStatus(IoError::kReset, "a"), Socks5Reply::kHostUnreachable, 502},
      {core::ToStatus(IoError::kNoDescriptors, "a"), Socks5Reply::kGeneralFailure, 502},
      {Annotate(core::ToStatus(IoError::kRefused, "a"), "context"), Socks5Reply::kConnectionRefused, 502},
      {Unavailable("the server could not reach the target"), Socks5Reply::kHostUnreachable, 502},
      {NotFound("no such name"), Socks5Reply::kHostUnreachable, 502},
      {PermissionDenied("policy"), Socks5Reply::kNotAllowed, 403},
      {DeadlineExceeded("silence"), Socks5Reply::kTtlExpired, 504},
      {absl::FailedPreconditionError("no channel"), Socks5Reply::kGeneralFailure, 502},
      {absl::AbortedError("channel lost"), Socks5Reply::kGeneralFailure, 502},
      {absl::UnimplementedError("no"), Socks5Reply::kCommandNotSupported, 501},
      {Internal("bug"), Socks5Reply::kGeneralFailure, 502},
  };
  for (const auto& c : cases) {
    const ProxyReply reply = ReplyFor(c.failure);
    EXPECT_EQ(reply.socks5, c.socks5) << c.failure;
    EXPECT_EQ(reply.http_status, c.http) << c.failure;
    EXPECT_EQ(reply.socks4, proto::Socks4Reply::kRejected);
    EXPECT_FALSE(reply.words.empty());
  }
}

TEST(ProxyReplies, EveryCodeHasOne) {
  for (int code = 1; code <= 16; ++code) {
    const ProxyReply reply = ReplyFor(MakeStatus(static_cast<absl::StatusCode>(code), "x"));
    EXPECT_NE(reply.socks5, Socks5Reply::kSucceeded) << code;
    EXPECT_FALSE(reply.words.empty());
  }
}

TEST(ProxyReplies, HttpAnswers) {
  EXPECT_EQ(HttpAnswer(502, "no", AfterAnswer::kClose),
            "HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 20\r\n"
            "Connection: close\r\n\r\n502 Bad Gateway: no\n");
  EXPECT_EQ(HttpAnswer(407, "who", AfterAnswer::kKeepAlive, "Proxy-Authenticate: Basic\r\n"),
            "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n"
            "Content-Type: text/plain; charset=utf-8\r\nContent-Length: 39\r\n\r\n"
            "407 Proxy Authentication Required: who\n");
}

}  // namespace
}  // namespace tunnel::net
