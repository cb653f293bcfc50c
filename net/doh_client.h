// Asks DNS questions of DoH resolvers (RFC 8484).
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/reactor.h"
#include "core/task.h"
#include "ech/doh_transport.h"
#include "net/doh_connector.h"
#include "net/doh_exchange.h"
#include "net/doh_http2.h"
#include "proto/dns_message.h"

namespace tunnel::net {

// A resolver.
struct DohEndpoint {
  std::string host;  // a name, or an IP literal without brackets
  uint16_t port = 443;
  std::string path = "/dns-query";

  bool operator==(const DohEndpoint&) const = default;
};

// Parses `[https://]host[:port][/path]`; the path is /dns-query when there is none, and may end in the `{?dns}` of an
// RFC 8484 template. InvalidArgument says what is expected.
[[nodiscard]] absl::StatusOr<DohEndpoint> ParseDohUrl(std::string_view url);

struct DohClientOptions {
  // The next resolver is asked too when the one before has not answered for this long, or at once when it failed.
  core::Duration hedge_delay = std::chrono::milliseconds(200);
  core::Duration query_limit = std::chrono::seconds(5);
};

// The first resolver with an answer wins. An answer is a well-formed response to the question with NOERROR or NXDOMAIN;
// another rcode counts as a failure as long as some resolver may do better, and is returned as it is when none does.
// Questions go out as GET; a resolver that does not take that is asked by POST, then and from then on (RFC 8484
// section 4.1 has servers take both). Connections that speak HTTP/2 are kept for DohHttp2::kIdleLimit. Owner core only;
// queries must have ended before it is destroyed, and what it refers to must outlive it.
class DohClient final : public ech::DohTransport {
 public:
  // `endpoints`: at least one, in the order to ask them.
  DohClient(core::Reactor& reactor, DohConnector& connector, std::vector<DohEndpoint> endpoints,
            DohClientOptions options = {});
  DohClient(const DohClient&) = delete;
  DohClient& operator=(const DohClient&) = delete;
  ~DohClient();

  // Ends with every resolver's host and reason when none answered.
  [[nodiscard]] core::Task<absl::StatusOr<std::vector<uint8_t>>> Query(std::string name, uint16_t type) override;

 private:
  // A connection being made, which all who want to ask this resolver wait for.
  struct Dial {
    core::Event done;
    absl::Status status;
  };
  struct Server {
    DohEndpoint endpoint;
    std::string authority;
    std::shared_ptr<DohHttp2> session;
    std::shared_ptr<Dial> dial;
    bool takes_post = false;    // and not GET, as it turned out
    bool speaks_http1 = false;  // a connection serves one question, so none waits for another's
  };
  struct Question {
    proto::DnsQuestion question;
    std::string parameter;                 // dns=..., of a GET
    std::string message;                   // the body of a POST
    std::vector<uint8_t> without_success;  // the first response with an rcode that is no answer
  };

  [[nodiscard]] static DohRequest RequestFor(const Server& server, const Question& question);
  [[nodiscard]] core::Task<absl::StatusOr<std::vector<uint8_t>>> Ask(Server* server, Question* question);
  [[nodiscard]] core::Task<absl::StatusOr<std::vector<uint8_t>>> Fetch(Server* server, DohRequest request);
  [[nodiscard]] absl::Status Failure(absl::Status failure, size_t number, bool started) const;

  core::Reactor& reactor_;
  DohConnector& connector_;
  const DohClientOptions options_;
  std::vector<Server> servers_;
};

}  // namespace tunnel::net
