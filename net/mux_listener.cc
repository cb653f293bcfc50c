#include "net/mux_listener.h"

#include <algorithm>

#include "core/io_error.h"
#include "core/log.h"
#include "net/limits.h"

namespace tunnel::net {
namespace {

// What the kernel said of binding, as OPENED says it (docs/wire-native.md): an address that is taken is refused, and
// what is not permitted to this process has nothing to do with the rules.
absl::Status BindFailure(const absl::Status& failure) {
  switch (core::IoErrorOf(failure)) {
    case core::IoError::kAddressInUse:
      return core::ToStatus(core::IoError::kRefused, MessageOf(failure));
    case core::IoError::kDenied:
      return Internal("{}", MessageOf(failure));
    default:
      return failure;
  }
}

}  // namespace

bool AllowsReverse(const std::vector<TargetRule>& rules, const core::SocketAddress& address) {
  if (!address.valid() || address.is_unix()) return false;
  const proto::IpAddress ip = proto::Unmapped(proto::IpAddress::V6(address.mapped_bytes()));
  return std::any_of(rules.begin(), rules.end(), [&](const TargetRule& rule) {
    const bool ports = address.port() == 0 ? rule.first_port == 1 && rule.last_port == 65535
                                           : rule.first_port <= address.port() && address.port() <= rule.last_port;
    return ports && rule.kind == TargetRule::Kind::kNetwork && rule.network.Contains(ip);
  });
}

MuxListener::MuxListener(core::Reactor& reactor, Owner& owner, MuxStream& stream)
    : reactor_(reactor),
      owner_(owner),
      stream_(stream),
      handle_(stream.TakeHandle()),
      room_timer_(reactor.timers(), [this] { CheckRoom(); }) {
  stream_.SetWatcher(this);
}

MuxListener::~MuxListener() { stream_.SetWatcher(nullptr); }

absl::StatusOr<proto::Target> MuxListener::Open(const std::vector<TargetRule>& rules) {
  const proto::Target& wanted = stream_.address();
  const std::optional<core::SocketAddress> address = core::SocketAddress::Parse(wanted.host, wanted.port);
  if (!address.has_value() || !AllowsReverse(rules, *address)) {
    return PermissionDenied("-allow-reverse does not permit {}", proto::ToString(wanted));
  }
  auto listener = core::Listener::Open(reactor_, *address, false,
                                       [this](core::StreamSocket socket, const core::SocketAddress& peer) {
                                         (void)peer;
                                         OnAccepted(std::move(socket));
                                       });
  if (!listener.ok()) return BindFailure(listener.status());
  listener_ = *std::move(listener);
  bound_ = {.host = address->ip(), .port = listener_.local_address().port()};
  return bound_;
}

void MuxListener::OnAccepted(core::StreamSocket socket) {
  // Accepted before there was a pause.
  if (!owner_.HasRoom()) {
    reactor_.counters().connections_refused.Add();
    socket.Reset();
  } else {
    owner_.OnConnection(bound_, std::move(socket));
  }
  CheckRoom();
}

void MuxListener::CheckRoom() {
  if (owner_.HasRoom()) {
    room_timer_.Cancel();
    listener_.Resume();
    return;
  }
  listener_.Pause();
  room_timer_.SetAfter(kMuxListenerPause);
}

void MuxListener::Stop(std::string_view reason) {
  listener_.Close();
  room_timer_.Cancel();
  stream_.Reset(proto::MuxResetCode::kAborted, reason);
}

void MuxListener::OnCarried(const proto::Target& address, core::Slice payload) {
  // A stream of this kind carries none: the session resets one that does.
  (void)address;
  (void)payload;
}

void MuxListener::OnGone(const absl::Status& reason) {
  spdlog::debug("listening for a client on {} ends: {}", proto::ToString(bound_), MessageOf(reason));
  listener_.Close();
  room_timer_.Cancel();
  owner_.OnListenerGone(stream_.id());
}

}  // namespace tunnel::net
