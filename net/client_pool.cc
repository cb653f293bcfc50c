#include "net/client_pool.h"

#include <algorithm>

#include "core/log.h"
#include "net/legacy_datagrams.h"
#include "net/limits.h"
#include "net/mux_datagrams.h"

namespace tunnel::net {

// An association of which it is not known what will carry it until a datagram finds a channel. It stays with that one's
// protocol for as long as a channel of it is up, or none of the other: in a pool of servers of both kinds, either may
// go.
class ClientPool::Datagrams final : public DatagramAssociation {
 public:
  Datagrams(ClientPool& pool, Handler& handler) : pool_(pool), handler_(handler) {}

  void Send(const proto::Target& to, core::Slice payload) override {
    if (way_ == nullptr || pool_.changes_ != seen_changes_) Reconsider();
    if (way_ != nullptr) {
      way_->Send(to, std::move(payload));
    } else {
      pool_.reactor_.counters().datagrams_dropped.Add();
    }
  }
  // Servers alone ask ahead of use, for the original's clients.
  void Prepare(const proto::Target& target) override { (void)target; }

 private:
  void Reconsider() {
    seen_changes_ = pool_.changes_;
    const bool native = pool_.Choose().channel != nullptr;
    const bool legacy = !pool_.LegacyUp().empty();
    if (!native && !legacy) return;
    if (way_ != nullptr && (native_ ? native : legacy)) return;
    way_ = pool_.MakeDatagrams(native, handler_);
    native_ = native;
  }

  ClientPool& pool_;
  Handler& handler_;
  std::unique_ptr<DatagramAssociation> way_;
  bool native_ = false;  // what it is: mux/2, or the legacy protocol
  uint64_t seen_changes_ = 0;
};

ClientPool::ClientPool(core::Reactor& reactor, const Config& config, const TlsClientContext& tls,
                       ServerDirectory& directory, uint32_t first_stream_id)
    : reactor_(reactor),
      context_{.reactor = reactor, .config = config, .tls = tls, .directory = directory, .session = nullptr} {
  NewSession(first_stream_id);
  context_.changed = [this] {
    ++changes_;
    const unsigned up = channels_up();
    if (up > 0) {
      some_up_.Set();
    } else {
      some_up_.Reset();
    }
    if (changed_ != nullptr) changed_(up);
  };
}

void ClientPool::NewSession(uint32_t first_stream_id) {
  sessions_.push_back(std::make_unique<MuxClientSession>(reactor_, budget_, first_stream_id));
  MuxClientSession& session = *sessions_.back();
  context_.session = &session;
  session.SetStranded([this] {
    if (std::any_of(sessions_.begin(), sessions_.end(), [](const auto& each) { return each->stranded(); })) {
      context_.stranded.Set();
    } else {
      context_.stranded.Reset();
    }
  });
  session.SetSettled([this] {
    if (settled_ != nullptr) settled_();
  });
  session.SetGoAway([this](MuxChannel& left) {
    for (const auto& channel : channels_) {
      if (channel->Is(left)) channel->Renew();
    }
  });
}

bool ClientPool::only_legacy() const {
  return channels_up() > 0 && std::all_of(sessions_.begin(), sessions_.end(),
                                          [](const auto& session) { return session->channels().empty(); });
}

MuxRoute ClientPool::Choose() {
  if (sessions_.back()->nearly_used_up()) {
    spdlog::info("the session has used up its stream ids: its channels are replaced by another's");
    NewSession(1);
    for (const auto& channel : channels_) channel->Renew();
    if (session_began_ != nullptr) session_began_(session());
  }
  for (auto session = sessions_.rbegin(); session != sessions_.rend(); ++session) {
    if (MuxChannel* channel = (*session)->Choose(); channel != nullptr) {
      return {.session = session->get(), .channel = channel};
    }
  }
  return {};
}

bool ClientPool::HasLingeringStreams() const {
  return std::any_of(sessions_.begin(), sessions_.end(), [](const auto& session) { return session->HasLingering(); });
}

void ClientPool::AddChannel(core::Scope& scope, unsigned number, std::optional<core::SocketAddress> only_address) {
  channels_.push_back(std::make_unique<ClientChannel>(context_, number, only_address));
  scope.Spawn(channels_.back()->Keep());
}

std::vector<LegacyClient*> ClientPool::LegacyUp() const {
  std::vector<LegacyClient*> up;
  for (const auto& channel : channels_) {
    LegacyClient* carrier = channel->legacy();
    if (carrier != nullptr && carrier->up()) up.push_back(carrier);
  }
  return up;
}

unsigned ClientPool::channels_up() const {
  return static_cast<unsigned>(
      std::count_if(channels_.begin(), channels_.end(), [](const auto& channel) { return channel->up(); }));
}

void ClientPool::CloseChannels() {
  for (const auto& session : sessions_) session->ResetAll("the client stops");
  for (const auto& channel : channels_) channel->Close();
}

core::Task<absl::StatusOr<std::unique_ptr<ByteStream>>> ClientPool::Open(proto::Target target, core::Slice first) {
  core::TaskContext& context = co_await core::CurrentTask();
  const core::DeadlineGuard deadline(context, kOpenLimit);
  MuxRoute native = Choose();
  std::vector<LegacyClient*> legacy = LegacyUp();
  while (native.channel == nullptr && legacy.empty()) {
    some_up_.Reset();
    const absl::Status waited = co_await some_up_.Wait();
    if (!waited.ok()) {
      reactor_.counters().streams_failed.Add();
      if (!absl::IsDeadlineExceeded(waited)) co_return waited;
      co_return MakeStatus(absl::StatusCode::kFailedPrecondition, "no channel to the server is up");
    }
    native = Choose();
    legacy = LegacyUp();
  }
  if (native.channel != nullptr) {
    auto stream = co_await native.session->Open(*native.channel, std::move(target), std::move(first));
    if (!stream.ok()) reactor_.counters().streams_failed.Add();
    co_return std::move(stream);
  }
  auto stream = co_await OpenLegacyStream(reactor_, std::move(legacy), std::move(target), std::move(first));
  if (!stream.ok()) reactor_.counters().streams_failed.Add();
  co_return std::move(stream);
}

core::Task<absl::StatusOr<std::unique_ptr<ByteStream>>> ClientPool::OpenAhead(proto::Target target) {
  const MuxRoute native = Choose();
  if (native.channel == nullptr) co_return co_await Open(std::move(target), core::Slice());
  auto stream = native.session->OpenAhead(*native.channel, std::move(target));
  if (!stream.ok()) reactor_.counters().streams_failed.Add();
  co_return std::move(stream);
}

LegacyClient* ClientPool::ChooseForDatagrams() {
  const std::vector<LegacyClient*> up = LegacyUp();
  for (size_t i = 0; i < up.size(); ++i) {
    LegacyClient* channel = up[next_for_datagrams_++ % up.size()];
    if (channel->socket().writable()) return channel;
  }
  return nullptr;
}

absl::StatusOr<std::unique_ptr<DatagramAssociation>> ClientPool::Open(DatagramAssociation::Handler& handler,
                                                                      SenderFilter filter) {
  (void)filter;  // the legacy protocol passes on nothing but what targets answer, mux/2 what anybody sends
  return std::make_unique<Datagrams>(*this, handler);
}

std::unique_ptr<DatagramAssociation> ClientPool::MakeDatagrams(bool native, DatagramAssociation::Handler& handler) {
  if (native) return std::make_unique<MuxDatagrams>(reactor_, [this] { return Choose(); }, handler);
  return std::make_unique<LegacyDatagrams>(reactor_, [this] { return ChooseForDatagrams(); }, handler);
}

}  // namespace tunnel::net
