// What an application is told when its stream could not be opened, in each protocol of the proxy listener.
#pragma once

#include <string>
#include <string_view>

#include "core/status.h"
#include "proto/socks4.h"
#include "proto/socks5.h"

namespace tunnel::net {

// One failure in every protocol. SOCKS4 knows one code for all of them; HTTP says the rest in words.
struct ProxyReply {
  proto::Socks5Reply socks5 = proto::Socks5Reply::kGeneralFailure;
  proto::Socks4Reply socks4 = proto::Socks4Reply::kRejected;
  int http_status = 502;
  // For people, without names: a literal.
  std::string_view words;
};

// The reply for a failure of StreamOpener::Open: told apart by its code and, where a socket's error is behind it, by
// core::IoErrorOf. Complete: every failure has a reply. What only a server can know (refused, unreachable, unknown,
// denied) comes as far as the channel's protocol carries it; the legacy one says only that it failed.
[[nodiscard]] ProxyReply ReplyFor(const absl::Status& failure);

// How an answer of the HTTP proxy's own ends.
enum class AfterAnswer { kKeepAlive, kClose };

// A whole HTTP answer with a short text as its body. `extra` are further header lines, each with its CRLF.
[[nodiscard]] std::string HttpAnswer(int status, std::string_view words, AfterAnswer after,
                                     std::string_view extra = {});

}  // namespace tunnel::net
