#include "net/target_connector.h"

#include <algorithm>
#include <vector>

#include "net/admission.h"
#include "net/connect_race.h"
#include "net/limits.h"
#include "net/tcp_stream.h"

namespace tunnel::net {

core::Task<absl::StatusOr<std::unique_ptr<ByteStream>>> TargetConnector::Connect(proto::Target target) {
  core::Counters& counters = reactor_.counters();
  if (absl::Status admitted = AdmitConnect(counters); !admitted.ok()) co_return admitted;
  core::TaskContext& context = co_await core::CurrentTask();
  const core::CountGuard counted(counters.connects_in_progress);
  const core::DeadlineGuard deadline(context, kTargetConnectLimit);
  if (target.port == 0 && proto::IsUnixTarget(target.host)) {
    // Always from here: the path is one of this host.
    if (!policy_.AllowsUnix(proto::UnixPathOf(target.host))) co_return DenyTarget(counters);
    const auto path = core::SocketAddress::Unix(proto::UnixPathOf(target.host));
    TUNNEL_CHECK(path.has_value());
    auto socket = co_await core::Connect(reactor_, *path);
    if (!socket.ok()) co_return socket.status();
    co_return std::make_unique<TcpStream>(*std::move(socket));
  }
  if (upstream_ != nullptr) {
    if (!policy_.AllowsUnresolved(target.host, target.port)) co_return DenyTarget(counters);
    co_return co_await upstream_->Connect(std::move(target));
  }
  auto addresses = co_await resolver_.Resolve(target.host, target.port);
  if (!addresses.ok()) co_return addresses.status();
  std::erase_if(*addresses, [&](const core::SocketAddress& address) { return !policy_.Allows(target.host, address); });
  if (addresses->empty()) co_return DenyTarget(counters);
  auto socket = co_await ConnectRace(reactor_, *std::move(addresses), ConnectRaceOptions{});
  if (!socket.ok()) co_return socket.status();
  co_return std::make_unique<TcpStream>(*std::move(socket));
}

}  // namespace tunnel::net
