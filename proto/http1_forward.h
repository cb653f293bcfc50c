// What a forward proxy sends on for the heads it received (RFC 9110 7.6, RFC 9112 3.2, 6.1 and 9.6).
//
// End-to-end fields keep their order and repetitions. The fields of one hop go: Connection and those it names, all of
// Proxy-*, Keep-Alive, TE, Transfer-Encoding and Upgrade. The framing is written anew from what was understood, so that
// the receiver cannot read another one out of it. Trailer stays, since the trailers do (RFC 9110 7.6.1 took it off the
// list).
//
// No Via is added (RFC 9110 7.6.3 asks for one): it would tell every origin that the request came through this program.
// What Via is for, finding loops, cannot happen within the tunnel: a request that is sent to the proxy itself comes in
// origin form and is refused.
#pragma once

#include <absl/status/statusor.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "proto/http1.h"

namespace tunnel::proto {

// The authority of an absolute-form target as it stands there: what Host is to say (RFC 9112 3.2.2). A view into the
// head.
std::string_view AuthorityOf(const RequestHead& head);

// Whether the request asks to switch protocols, so that Upgrade is to travel: HTTP/1.1 and both fields
// (RFC 9110 7.8).
bool AsksToUpgrade(const RequestHead& head);

// Whether sending the request twice is like sending it once (RFC 9110 9.2.2) and it has no content, so that it may be
// sent again when a kept-alive connection turns out to be dead.
bool MayBeSentAgain(const RequestHead& head);

// Max-Forwards of TRACE and OPTIONS (RFC 9110 7.6.2); nullopt when there is none that counts.
std::optional<uint64_t> MaxForwards(const RequestHead& head);

// The head in origin form for the origin. `head` in absolute form. `close`: the connection is for this request only.
// Expect: 100-continue is kept for HTTP/1.1 only: a 1.0 client waits for nothing. Fails only where a field cannot be
// written again, which no parsed head does.
absl::StatusOr<std::string> ForwardedRequest(const RequestHead& head, bool close);

struct ResponseForwarding {
  // HTTP/1.0 clients know neither chunks nor interim responses.
  int client_minor_version = 1;
  // The connection to the client ends behind this response.
  bool close = false;
};

// The head for the client. A 101 keeps Upgrade. A body that came in chunks goes on in chunks, but to an HTTP/1.0
// client, for which it ends with the connection.
absl::StatusOr<std::string> ForwardedResponse(const ResponseHead& head, const ResponseForwarding& how);

// `trailers` is what ChunkedDecoder handed out. The result, without the empty line, lacks the fields that must not
// stand there (RFC 9110 6.5.1): those of framing, routing and one hop.
std::string ForwardedTrailers(std::string_view trailers);

}  // namespace tunnel::proto
