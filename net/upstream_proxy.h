// The server's way out through a SOCKS5 proxy (`-f socks5://`): connects to it, negotiates, hands over the stream.
#pragma once

#include <memory>

#include "core/task.h"
#include "net/byte_reader.h"
#include "net/byte_stream.h"
#include "net/config.h"
#include "net/resolver.h"
#include "proto/socks5_client.h"

namespace tunnel::net {

// What came of a negotiation.
struct UpstreamAnswer {
  absl::Status status;   // why there is no way
  bool refused = false;  // the proxy works; it is the target that it does not reach or does not want to
  proto::Target bound;   // when ok: BND.ADDR and BND.PORT
};

// Negotiates on `stream`, which is connected to the proxy and read by `reader`. What the proxy sent behind its reply is
// left in `reader`. Ends when the proxy has answered, closed or broken the protocol, or the task is interrupted; sets
// no limit of its own. All must outlive the call.
[[nodiscard]] core::Task<UpstreamAnswer> NegotiateSocks5Client(core::Reactor& reactor, ByteStream& stream,
                                                               ByteReader& reader,
                                                               std::optional<proto::Credentials> credentials,
                                                               proto::Socks5Command command, proto::Target target);

// A UDP association with the proxy: it lasts as long as `control` is open (RFC 1928 section 7).
struct UpstreamAssociation {
  std::unique_ptr<ByteStream> control;
  core::SocketAddress relay;  // where datagrams go to
};

// Owner core only; everything given must outlive it and its calls, of which any number may overlap.
class UpstreamProxy {
 public:
  UpstreamProxy(core::Reactor& reactor, Resolver& resolver, const OutboundProxy& proxy)
      : reactor_(reactor), resolver_(resolver), proxy_(proxy) {}
  UpstreamProxy(const UpstreamProxy&) = delete;
  UpstreamProxy& operator=(const UpstreamProxy&) = delete;

  // A stream to `target`, whose name the proxy resolves. Sets no limit of its own. Fails with
  // kInvalidArgument when no such target can be, with kUnavailable or another
  // code of proto::StatusOfReply when the proxy refuses; else with why the proxy cannot be used: it is not reached, or
  // closes (kUnavailable), does not take our credentials (kPermissionDenied), speaks something else (kDataLoss).
  [[nodiscard]] core::Task<absl::StatusOr<std::unique_ptr<ByteStream>>> Connect(proto::Target target);

  // An association for datagrams from anywhere. A relay address of all zeros is the proxy's own; a name is resolved.
  // Fails as Connect() does.
  [[nodiscard]] core::Task<absl::StatusOr<UpstreamAssociation>> Associate();

 private:
  struct Negotiated;
  [[nodiscard]] core::Task<absl::StatusOr<Negotiated>> Negotiate(proto::Socks5Command command, proto::Target target);
  // Says that the proxy cannot be used, not more often than every kProxyWarningInterval.
  void Warn(const absl::Status& status);

  core::Reactor& reactor_;
  Resolver& resolver_;
  const OutboundProxy& proxy_;
  std::optional<core::TimePoint> warned_;
};

}  // namespace tunnel::net
