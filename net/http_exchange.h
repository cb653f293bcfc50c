// One forwarded request and its answer, between a client's connection and an origin's.
#pragma once

#include <string>
#include <string_view>

#include "net/http_input.h"
#include "proto/http1.h"

namespace tunnel::net {

// What of a request its answer depends on; the head itself is gone by then.
struct ForwardedExchange {
  std::string method;
  int client_minor_version = 1;
  // The client's connection may outlive the request.
  bool persistent = false;
  // The request asks to switch protocols.
  bool upgrade = false;
};

struct ExchangeResult {
  enum class Kind {
    kDone,        // the answer was passed on
    kSwitched,    // so was a 101: both connections belong to the new protocol
    kNoAnswer,    // the origin left before its first byte
    kBadAnswer,   // nothing of the final answer was sent: the client is to be told 502 and `words`
    kBadRequest,  // as above with 400: the request's body is malformed
    kCutShort,    // in the middle of an answer whose framing tells the client so when its connection ends
    kBroken,      // in the middle of one that would look whole, or the client left: its connection is to be aborted
    kCancelled,   // the task is to end
  };
  Kind kind = Kind::kBroken;
  std::string_view words;
  // kDone: whether the connections may carry another request. The client was told when its own may not.
  bool client_may_go_on = false;
  bool origin_may_go_on = false;
};

// Passes the answer of `origin` on to `client` while the request's body, which the caller started, goes the other way.
// Both signal `changed`. Leaves no body under way that it started.
[[nodiscard]] core::Task<ExchangeResult> RelayAnswer(core::Reactor& reactor, const ForwardedExchange& exchange,
                                                     HttpInput& client, HttpInput& origin, core::Event& changed);

}  // namespace tunnel::net
