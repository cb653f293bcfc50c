// A ClientHello as Chrome's, which is made by the same library: an observer who sees another shape knows that it is not
// a browser, however well the name is hidden.
#pragma once

#include <openssl/ssl.h>

#include "core/status.h"

namespace tunnel::net {

// Sets what decides over the shape of a ClientHello and is not the default of the linked BoringSSL: cipher suites,
// signature algorithms, groups, certificate compression, OCSP and SCT requests, GREASE, the order of extensions. What
// newer browsers offer and the linked version cannot (a post-quantum group before BoringSSL of 2024) is left out: see
// docs/architecture.md. Before the first handshake.
[[nodiscard]] absl::Status LookLikeABrowser(SSL_CTX* ctx);

}  // namespace tunnel::net
