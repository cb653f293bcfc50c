// The tickets that a client was given by its server (RFC 8446 section 4.6.1), for coming back with a round trip less.
//
// Each is used once, so that nobody who sees two connections can tell that they are of one client (appendix C.4); they
// are kept in memory only, so that none links what came before a restart, or a new -state, with what comes after.
#pragma once

#include <openssl/ssl.h>

#include <deque>
#include <string>
#include <string_view>
#include <utility>

namespace tunnel::net {

// Of one core. A ticket's age is BoringSSL's affair: one that is too old is not offered.
class TlsTickets {
 public:
  // More than the channels of a core get by with: a server gives two a connection.
  static constexpr size_t kLimit = 32;

  // Keeps a ticket of `host`; the oldest goes when there are too many.
  void Add(std::string_view host, bssl::UniquePtr<SSL_SESSION> session) {
    if (kept_.size() >= kLimit) kept_.pop_front();
    kept_.emplace_back(host, std::move(session));
  }
  // The newest of `host`, which is then no longer here; null when there is none.
  [[nodiscard]] bssl::UniquePtr<SSL_SESSION> Take(std::string_view host) {
    for (auto at = kept_.rbegin(); at != kept_.rend(); ++at) {
      if (at->first != host) continue;
      bssl::UniquePtr<SSL_SESSION> session = std::move(at->second);
      kept_.erase(std::next(at).base());
      return session;
    }
    return nullptr;
  }
  void Clear() { kept_.clear(); }

 private:
  std::deque<std::pair<std::string, bssl::UniquePtr<SSL_SESSION>>> kept_;
};

}  // namespace tunnel::net
