#include "net/client_service.h"

#include "core/log.h"
#include "net/cares_resolver.h"
#include "net/client_contexts.h"
#include "net/client_pool.h"
#include "net/doh_client.h"
#include "net/doh_tls_connector.h"
#include "net/forward_listener.h"
#include "net/limits.h"
#include "net/name_guard.h"
#include "net/proxy_listener.h"
#include "net/reverse_forwards.h"
#include "net/server_directory.h"
#include "net/server_keeper.h"
#include "net/udp_forward.h"

namespace tunnel::net {

class ClientService final : public TunnelService {
 public:
  ClientService(core::Reactor& reactor, ClientShared& shared, core::ReactorGroup& group)
      : TunnelService(reactor), shared_(shared), group_(group) {}
  ~ClientService() override {
    shared_.services[reactor().index()] = nullptr;
    if (keeper_ != nullptr) shared_.keeper = nullptr;
  }

  absl::Status Start();

 private:
  void StopAdmitting() override {
    for (const auto& forward : udp_forwards_) forward->StopAdmitting();
    reverse_->Stop();
  }
  void CloseChannels() override {
    udp_forwards_.clear();
    associations_->CloseAll();
    pool_->CloseChannels();
  }
  [[nodiscard]] bool HasLingeringStreams() const override { return pool_->HasLingeringStreams(); }
  [[nodiscard]] bool HasChannels() const override { return pool_->channels_up() > 0; }

  // Makes keeper_, on core 0, and has every core told what it knows.
  absl::Status StartKeeper();
  absl::Status StartUdpForward(const ListenSpec& spec);
  void OnAccepted(const ListenSpec& spec, core::StreamSocket socket);
  void Serve(const ListenSpec& spec, core::StreamSocket socket);
  // The core to which a connection goes that came to this one; this one unless it has no channel and another has.
  [[nodiscard]] unsigned CoreFor(const ListenSpec& spec);

  ClientShared& shared_;
  core::ReactorGroup& group_;
  std::unique_ptr<CaresResolver> cares_;
  std::unique_ptr<NameGuard> resolver_;
  std::unique_ptr<TlsClientContext> doh_tls_;
  std::unique_ptr<TlsClientContext> tunnel_tls_;
  std::unique_ptr<DohTlsConnector> doh_connector_;
  std::unique_ptr<DohClient> doh_;
  std::unique_ptr<ServerKeeper> keeper_;  // on core 0
  std::unique_ptr<ServerDirectory> directory_;
  std::unique_ptr<ClientPool> pool_;
  std::unique_ptr<UdpAssociateSet> associations_;
  std::vector<std::unique_ptr<UdpForward>> udp_forwards_;
  std::unique_ptr<ReverseForwards> reverse_;
  unsigned next_core_ = 0;
};

absl::Status ClientService::Start() {
  const Config& config = shared_.config;
  auto resolver = CaresResolver::Create(reactor(), CaresOptions{});
  if (!resolver.ok()) return resolver.status();
  cares_ = *std::move(resolver);
  resolver_ = std::make_unique<NameGuard>(*cares_, config.fallback ? "" : config.server_host);
  auto doh_tls = MakeDohContext(config);
  if (!doh_tls.ok()) return doh_tls.status();
  doh_tls_ = *std::move(doh_tls);
  auto tunnel_tls = MakeTunnelContext(config);
  if (!tunnel_tls.ok()) return tunnel_tls.status();
  tunnel_tls_ = *std::move(tunnel_tls);
  directory_ = std::make_unique<ServerDirectory>(reactor(), config, [this](ServerDirectory::ToKeeper call) {
    if (keeper_ != nullptr) {
      call(*keeper_);
      return;
    }
    group_.Post(reactor().index(), 0, [&shared = shared_, call = std::move(call)]() mutable {
      if (shared.keeper != nullptr) call(*shared.keeper);
    });
  });
  if (reactor().index() == 0) {
    auto endpoints = DohEndpoints(config);
    if (!endpoints.ok()) return endpoints.status();
    doh_connector_ = std::make_unique<DohTlsConnector>(reactor(), *doh_tls_, *resolver_);
    doh_ = std::make_unique<DohClient>(reactor(), *doh_connector_, *std::move(endpoints));
    TUNNEL_RETURN_IF_ERROR(StartKeeper());
  }
  pool_ = std::make_unique<ClientPool>(reactor(), config, *tunnel_tls_, *directory_);
  associations_ = std::make_unique<UdpAssociateSet>(reactor(), *pool_);
  reverse_ = std::make_unique<ReverseForwards>(reactor(), pool_->session(), *resolver_, relays(), scope());
  pool_->SetChanged([this](unsigned up) {
    shared_.up[reactor().index()].store(up, std::memory_order_relaxed);
    reverse_->OnChannelsChanged(pool_->only_legacy());
    if (up == 0) CheckIdle();
  });
  pool_->SetSettled([this] { CheckIdle(); });
  pool_->SetSessionBegan([this](MuxClientSession& session) { reverse_->MoveTo(session); });
  shared_.services[reactor().index()] = this;

  for (size_t i = 0; i < config.listen.size(); ++i) {
    const ListenSpec& spec = config.listen[i];
    // These are of one core each, and go round the cores: or each core's session would want the address, and a sender
    // of datagrams would not always meet the same core.
    const bool ours = i % group_.size() == reactor().index();
    if (spec.kind == ListenKind::kReverse) {
      if (ours) reverse_->Add(spec);
      continue;
    }
    if (spec.kind == ListenKind::kUdpForward) {
      if (ours) TUNNEL_RETURN_IF_ERROR(StartUdpForward(spec));
      continue;
    }
    TUNNEL_RETURN_IF_ERROR(Listen(spec, shared_.bound[i], group_.size() > 1,
                                  [this, &spec](core::StreamSocket socket, const core::SocketAddress& peer) {
                                    (void)peer;
                                    OnAccepted(spec, std::move(socket));
                                  }));
  }
  // The channels go round the cores; their numbers count over the process.
  unsigned number = 0;
  const auto add = [&](std::optional<core::SocketAddress> address) {
    if (number++ % group_.size() == reactor().index()) pool_->AddChannel(scope(), number, address);
  };
  for (unsigned i = 0; i < config.channels; ++i) {
    for (const core::SocketAddress& address : config.server_addresses) add(address);
    if (config.server_addresses.empty()) add(std::nullopt);
  }
  return absl::OkStatus();
}

absl::Status ClientService::StartKeeper() {
  auto keeper =
      ServerKeeper::Create(reactor(), shared_.config, *doh_, scope(), ServerKeeper::CacheFileOf(shared_.config));
  if (!keeper.ok()) return keeper.status();
  keeper_ = *std::move(keeper);
  shared_.keeper = keeper_.get();
  keeper_->Subscribe([this](const auto& knowledge) { directory_->Learn(knowledge); });
  for (unsigned core = 1; core < group_.size(); ++core) {
    keeper_->Subscribe([this, core](const std::shared_ptr<const ServerKnowledge>& knowledge) {
      group_.Post(0, core, [&shared = shared_, core, knowledge] {
        if (ClientService* service = shared.services[core]) service->directory_->Learn(knowledge);
      });
    });
  }
  return absl::OkStatus();
}

absl::Status ClientService::StartUdpForward(const ListenSpec& spec) {
  auto forward = std::make_unique<UdpForward>(reactor(), *pool_, spec.target, spec.description);
  if (const absl::Status opened = forward->Open(spec.address); !opened.ok()) {
    return Annotate(opened, "-l {}", spec.description);
  }
  LogListening(spec, forward->local_address());
  udp_forwards_.push_back(std::move(forward));
  return absl::OkStatus();
}

unsigned ClientService::CoreFor(const ListenSpec& spec) {
  unsigned own = reactor().index();
  // Core 0 alone listens on a Unix socket and deals its connections round the cores.
  if (spec.address.is_unix()) own = next_core_++ % group_.size();
  if (shared_.up[own].load(std::memory_order_relaxed) > 0) return own;
  for (unsigned core = 0; core < group_.size(); ++core) {
    if (shared_.up[core].load(std::memory_order_relaxed) > 0) return core;
  }
  return own;
}

void ClientService::OnAccepted(const ListenSpec& spec, core::StreamSocket socket) {
  if (reactor().counters().handshakes_in_progress.Get() >= kNegotiationsPerCore) {
    reactor().counters().connections_refused.Add();
    socket.Reset();
    return;
  }
  const unsigned to = CoreFor(spec);
  if (to == reactor().index()) {
    Serve(spec, std::move(socket));
    return;
  }
  socket.Release([this, to, &spec](int descriptor, const std::string& received) {
    TUNNEL_CHECK(received.empty());  // nothing was received: no handler was set
    group_.Post(reactor().index(), to, [&shared = shared_, to, &spec, descriptor] {
      ClientService& service = *shared.services[to];
      service.Serve(spec, core::StreamSocket(service.reactor(), descriptor));
    });
  });
}

void ClientService::Serve(const ListenSpec& spec, core::StreamSocket socket) {
  if (spec.kind == ListenKind::kForward) {
    scope().Spawn(ServeForward(reactor(), std::move(socket), spec, *pool_, relays()));
  } else {
    scope().Spawn(ServeProxy(reactor(), std::move(socket), spec, *pool_, relays(), *associations_));
  }
}

absl::StatusOr<std::unique_ptr<ClientShared>> ClientShared::Prepare(const Config& config, unsigned threads) {
  const size_t addresses = std::max<size_t>(1, config.server_addresses.size());
  threads = static_cast<unsigned>(std::min<size_t>(threads, config.channels * addresses));
  // Made again on each core; here only to fail before anything runs.
  if (auto context = MakeTunnelContext(config); !context.ok()) return context.status();
  if (auto endpoints = DohEndpoints(config); !endpoints.ok()) return endpoints.status();
  return std::make_unique<ClientShared>(config, threads);
}

std::string ClientShared::DohNameInClear(const Config& config) {
  if (!ServerKeeper::LooksUp(config)) return {};
  const auto endpoints = DohEndpoints(config);
  if (!endpoints.ok()) return {};
  std::vector<std::string> names;
  for (const DohEndpoint& endpoint : *endpoints) {
    if (!IsAddress(endpoint.host)) names.push_back(endpoint.host);
  }
  return fmt::format("{}", fmt::join(names, ", "));
}

absl::StatusOr<std::unique_ptr<TunnelService>> MakeClientService(core::Reactor& reactor, ClientShared& shared,
                                                                 core::ReactorGroup& group) {
  auto service = std::make_unique<ClientService>(reactor, shared, group);
  if (absl::Status started = service->Start(); !started.ok()) return started;
  return std::unique_ptr<TunnelService>(std::move(service));
}

}  // namespace tunnel::net
