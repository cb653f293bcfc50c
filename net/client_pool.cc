#include "net/client_pool.h"

#include <algorithm>

#include "net/legacy_datagrams.h"
#include "net/limits.h"

namespace tunnel::net {

ClientPool::ClientPool(core::Reactor& reactor, const Config& config, const TlsClientContext& tls,
                       ServerDirectory& directory)
    : reactor_(reactor), context_{.reactor = reactor, .config = config, .tls = tls, .directory = directory} {
  context_.changed = [this] {
    const unsigned up = channels_up();
    if (up > 0) {
      some_up_.Set();
    } else {
      some_up_.Reset();
    }
    if (changed_ != nullptr) changed_(up);
  };
}

void ClientPool::AddChannel(core::Scope& scope, unsigned number, std::optional<core::SocketAddress> only_address) {
  channels_.push_back(std::make_unique<ClientChannel>(context_, number, only_address));
  scope.Spawn(channels_.back()->Keep());
}

std::vector<LegacyClient*> ClientPool::Up() const {
  std::vector<LegacyClient*> up;
  for (const auto& channel : channels_) {
    LegacyClient* carrier = channel->carrier();
    if (carrier != nullptr && carrier->up()) up.push_back(carrier);
  }
  return up;
}

unsigned ClientPool::channels_up() const { return static_cast<unsigned>(Up().size()); }

void ClientPool::CloseChannels() {
  for (const auto& channel : channels_) channel->Close();
}

core::Task<absl::StatusOr<std::unique_ptr<ByteStream>>> ClientPool::Open(proto::Target target, core::Slice first) {
  core::TaskContext& context = co_await core::CurrentTask();
  const core::DeadlineGuard deadline(context, kOpenLimit);
  std::vector<LegacyClient*> up = Up();
  while (up.empty()) {
    const absl::Status waited = co_await some_up_.Wait();
    if (!waited.ok()) {
      reactor_.counters().streams_failed.Add();
      if (!absl::IsDeadlineExceeded(waited)) co_return waited;
      co_return MakeStatus(absl::StatusCode::kFailedPrecondition, "no channel to the server is up");
    }
    up = Up();
    if (up.empty()) some_up_.Reset();
  }
  auto stream = co_await OpenLegacyStream(reactor_, std::move(up), std::move(target), std::move(first));
  if (!stream.ok()) reactor_.counters().streams_failed.Add();
  co_return std::move(stream);
}

LegacyClient* ClientPool::ChooseForDatagrams() {
  const std::vector<LegacyClient*> up = Up();
  for (size_t i = 0; i < up.size(); ++i) {
    LegacyClient* channel = up[next_for_datagrams_++ % up.size()];
    if (channel->socket().writable()) return channel;
  }
  return nullptr;
}

absl::StatusOr<std::unique_ptr<DatagramAssociation>> ClientPool::Open(DatagramAssociation::Handler& handler,
                                                                      SenderFilter filter) {
  (void)filter;  // the legacy protocol passes on nothing but what targets answer
  return std::make_unique<LegacyDatagrams>(reactor_, [this] { return ChooseForDatagrams(); }, handler);
}

}  // namespace tunnel::net
