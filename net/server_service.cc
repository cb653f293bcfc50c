#include "net/server_service.h"

#include <algorithm>
#include <set>

#include "core/log.h"
#include "core/process.h"
#include "net/cares_resolver.h"
#include "net/direct_datagrams.h"
#include "net/ech_key_keeper.h"
#include "net/made_certificate.h"
#include "net/tunnel_server.h"
#include "net/upstream_datagrams.h"

namespace tunnel::net {
namespace {

std::chrono::system_clock::time_point WallTime(int64_t seconds) {
  return std::chrono::system_clock::time_point(std::chrono::seconds(seconds));
}

// The names a made certificate is for: what clients ask for inside ECH, the outer name that a rejection is judged by,
// and the addresses by which it is reached (DoH URLs are often given by address).
std::vector<std::string> NamesToCertify(const Config& config) {
  std::set<std::string> names(config.names.begin(), config.names.end());
  names.insert(config.ech_public_name);
  for (size_t i = 0; i < config.listen.size(); ++i) {
    const ListenSpec& spec = config.listen[i];
    if (spec.address.is_unix()) continue;
    const std::string ip = spec.address.ip();
    if (ip == "0.0.0.0" || ip == "::") {
      names.insert("127.0.0.1");
      names.insert("::1");
    } else {
      names.insert(ip);
    }
  }
  return {names.begin(), names.end()};
}

bool WantsTls(const Config& config) {
  return std::any_of(config.listen.begin(), config.listen.end(),
                     [](const ListenSpec& spec) { return spec.kind == ListenKind::kServerTls; });
}

}  // namespace

absl::StatusOr<ServerIdentity> LoadIdentity(const Config& config) {
  ServerIdentity identity;
  if (!WantsTls(config)) {
    identity.names = config.names;
    return identity;
  }
  const auto now = WallTime(core::WallSeconds());
  identity.certificate_file = config.certificate_file;
  identity.key_file = config.key_file;
  if (identity.certificate_file.empty()) {
    const std::vector<std::string> names = NamesToCertify(config);
    auto kept = LoadOrMakeCertificate(config.state_directory, names, now);
    if (!kept.ok()) return Annotate(kept.status(), "-state {}", config.state_directory);
    if (kept->made) {
      identity.notes.push_back(
          fmt::format("made a certificate: {} ({})", kept->certificate_file.string(), kept->why_made));
    }
    identity.certificate_file = kept->certificate_file;
    identity.key_file = kept->key_file;
  }
  // Only to fail here, before anything is served, and for the names.
  auto context = TlsServerContext::FromFiles(identity.certificate_file, identity.key_file, {"http/1.1"});
  if (!context.ok()) return Annotate(context.status(), "-cert, -key");
  identity.names = config.names.empty() ? (*context)->names() : config.names;
  identity.notes.push_back(fmt::format("certificate {}: {}", identity.certificate_file, FormatPin((*context)->pin())));

  const ech::KeyPolicy policy = KeyPolicyOf(config);
  auto keys =
      ech::KeyStore::LoadOrCreate(config.ech_key_directory, config.ech_public_name, policy.maximum_name_length, now);
  if (!keys.ok()) return Annotate(keys.status(), "-ech-keys {}", config.ech_key_directory);
  keys->Publish(now, policy.publish_delay);
  identity.warnings = keys->warnings();
  identity.notes.push_back(fmt::format("ECH keys: {} in {}, outer name {}{}", keys->keys().size(),
                                       config.ech_key_directory, keys->published().public_name(),
                                       keys->created_first_key() ? ", first one made now" : ""));
  identity.ech_keys = std::make_shared<const ech::KeyStore>(*std::move(keys));
  return identity;
}

void LogIdentity(const ServerIdentity& identity) {
  for (const std::string& note : identity.notes) spdlog::info("{}", note);
  for (const std::string& warning : identity.warnings) spdlog::warn("{}", warning);
}

absl::StatusOr<std::unique_ptr<ServerShared>> ServerShared::Prepare(const Config& config, unsigned threads) {
  auto shared = std::make_unique<ServerShared>(config, threads);
  auto identity = LoadIdentity(config);
  if (!identity.ok()) return identity.status();
  shared->identity = *std::move(identity);
  auto ticket_keys = TicketKeys::Create();
  if (!ticket_keys.ok()) return ticket_keys.status();
  shared->ticket_keys = *std::move(ticket_keys);
  return shared;
}

class ServerService final : public TunnelService {
 public:
  ServerService(core::Reactor& reactor, ServerShared& shared, core::ReactorGroup& group)
      : TunnelService(reactor),
        shared_(shared),
        group_(group),
        policy_(shared.config.allow_target, shared.config.deny_target) {}

  ~ServerService() override { shared_.services[reactor().index()] = nullptr; }

  absl::Status Start() {
    const Config& config = shared_.config;
    shared_.services[reactor().index()] = this;
    auto resolver = CaresResolver::Create(reactor(), CaresOptions{});
    if (!resolver.ok()) return resolver.status();
    resolver_ = *std::move(resolver);
    if (config.outbound.has_value()) {
      upstream_ = std::make_unique<UpstreamProxy>(reactor(), *resolver_, *config.outbound);
    }
    connector_ = std::make_unique<TargetConnector>(reactor(), *resolver_, policy_, upstream_.get());
    DatagramOpener* datagrams = nullptr;
    if (upstream_ != nullptr) {
      upstream_datagrams_ = std::make_unique<UpstreamDatagrams>(reactor(), *upstream_, policy_, scope());
      datagrams = upstream_datagrams_.get();
    } else {
      direct_datagrams_ = std::make_unique<DirectDatagrams>(reactor(), *resolver_, policy_, scope());
      datagrams = direct_datagrams_.get();
    }
    if (shared_.directory == nullptr) shared_.directory = std::make_unique<MuxSessionDirectory>(reactor());
    ServerParts parts{.config = config, .sources = shared_.sources, .directory = *shared_.directory, .move = MoveTo()};
    TUNNEL_RETURN_IF_ERROR(UseIdentity(shared_.identity, parts));
    if (config.serve_dns) {
      publisher_ = std::make_unique<DnsPublisher>(shared_.identity.names);
      parts.publisher = publisher_.get();
    }
    server_ = std::make_unique<TunnelServer>(reactor(), std::move(parts), *connector_, *datagrams, relays(), scope());
    server_->SetEmptied([this] { CheckIdle(); });
    if (reactor().index() == 0) {
      ticket_rotation_.SetAfter(kTicketLife);
      if (shared_.identity.ech_keys != nullptr) {
        key_keeper_ = std::make_unique<EchKeyKeeper>(
            reactor(), config, shared_.identity.ech_keys,
            [this](const std::shared_ptr<const ech::KeyStore>& keys) { ShareKeys(keys); });
      }
    }
    for (size_t i = 0; i < config.listen.size(); ++i) {
      const ListenSpec& spec = config.listen[i];
      TUNNEL_RETURN_IF_ERROR(Listen(spec, shared_.bound[i], group_.size() > 1,
                                    [this, &spec](core::StreamSocket socket, const core::SocketAddress& peer) {
                                      (void)peer;
                                      OnAccepted(spec, std::move(socket));
                                    }));
    }
    return absl::OkStatus();
  }

  absl::Status Reload() override {
    auto identity = LoadIdentity(shared_.config);
    if (!identity.ok()) return identity.status();
    if (reactor().index() == 0) LogIdentity(*identity);
    ServerParts parts{
        .config = shared_.config, .sources = shared_.sources, .directory = *shared_.directory, .move = nullptr};
    TUNNEL_RETURN_IF_ERROR(UseIdentity(*identity, parts));
    server_->SetTls(parts.tls, std::move(parts.ech_config_list));
    if (key_keeper_ != nullptr) key_keeper_->Look();
    return absl::OkStatus();
  }

 private:
  void StopAdmitting() override { server_->GoAway(); }
  [[nodiscard]] bool HasLingeringStreams() const override { return server_->HasLingeringStreams(); }
  void CloseChannels() override { server_->CloseChannels(); }
  [[nodiscard]] bool HasChannels() const override { return server_->channels() > 0; }

  void OnAccepted(const ListenSpec& spec, core::StreamSocket socket) {
    // Core 0 alone listens on a Unix socket and deals its connections round the cores.
    const unsigned to = spec.address.is_unix() ? next_core_++ % group_.size() : reactor().index();
    if (to == reactor().index()) {
      server_->OnAccepted(spec, std::move(socket));
      return;
    }
    socket.Release([this, to, &spec](int descriptor, const std::string& received) {
      TUNNEL_CHECK(received.empty());  // nothing was received: no handler was set
      group_.Post(reactor().index(), to, [&shared = shared_, to, &spec, descriptor] {
        ServerService& service = *shared.services[to];
        service.server_->OnAccepted(spec, core::StreamSocket(service.reactor(), descriptor));
      });
    });
  }

  // Hands a connection to the core that keeps its session.
  std::function<void(unsigned, MovedConnection)> MoveTo() {
    return [this](unsigned core, MovedConnection connection) {
      group_.Post(reactor().index(), core, [&shared = shared_, core, moved = std::move(connection)]() mutable {
        shared.services[core]->server_->OnMoved(std::move(moved));
      });
    };
  }

  // Has every core use these ECH keys for the handshakes that begin from now on.
  void ShareKeys(const std::shared_ptr<const ech::KeyStore>& keys) {
    for (unsigned core = 0; core < group_.size(); ++core) {
      group_.Post(reactor().index(), core, [&shared = shared_, core, keys] {
        if (ServerService* const service = shared.services[core]; service != nullptr) service->UseKeys(*keys);
      });
    }
  }
  void UseKeys(const ech::KeyStore& keys) {
    // Connections of earlier contexts are beyond their handshake or about to be: they keep the keys they have.
    if (contexts_.empty()) return;
    if (const absl::Status set = contexts_.back()->SetEchKeys(keys); !set.ok()) {
      spdlog::error("ECH keys: {}", MessageOf(set));
      return;
    }
    server_->SetEchConfigList(keys.PublishedList());
  }

  void RotateTicketKeys() {
    if (absl::Status rotated = shared_.ticket_keys->Rotate(); !rotated.ok()) spdlog::error("{}", MessageOf(rotated));
    ticket_rotation_.SetAfter(kTicketLife);
  }

  absl::Status UseIdentity(const ServerIdentity& identity, ServerParts& parts) {
    if (identity.ech_keys == nullptr) return absl::OkStatus();
    // DoH clients want HTTP/2 (RFC 8484 section 5.2), WebSocket clients offer HTTP/1.1 alone.
    std::vector<std::string> alpn = {"http/1.1"};
    if (shared_.config.serve_dns) alpn.insert(alpn.begin(), "h2");
    auto context = TlsServerContext::FromFiles(identity.certificate_file, identity.key_file, std::move(alpn));
    if (!context.ok()) return context.status();
    TUNNEL_RETURN_IF_ERROR((*context)->SetEchKeys(*identity.ech_keys));
    (*context)->ResumeWith(shared_.ticket_keys);
    parts.tls = context->get();
    parts.ech_config_list = identity.ech_keys->PublishedList();
    contexts_.push_back(*std::move(context));
    return absl::OkStatus();
  }

  ServerShared& shared_;
  core::ReactorGroup& group_;
  const TargetPolicy policy_;
  std::unique_ptr<CaresResolver> resolver_;
  std::unique_ptr<UpstreamProxy> upstream_;  // null without -f
  std::unique_ptr<TargetConnector> connector_;
  // One of them: with -f datagrams go out through the proxy, too.
  std::unique_ptr<DirectDatagrams> direct_datagrams_;
  std::unique_ptr<UpstreamDatagrams> upstream_datagrams_;
  std::unique_ptr<DnsPublisher> publisher_;
  // The last is used for new connections; earlier ones, from before a reload, still have connections of theirs.
  std::vector<std::unique_ptr<TlsServerContext>> contexts_;
  std::unique_ptr<TunnelServer> server_;
  std::unique_ptr<EchKeyKeeper> key_keeper_;                                         // core 0's
  core::Timer ticket_rotation_{reactor().timers(), [this] { RotateTicketKeys(); }};  // core 0's
  unsigned next_core_ = 0;
};

absl::StatusOr<std::unique_ptr<TunnelService>> MakeServerService(core::Reactor& reactor, ServerShared& shared,
                                                                 core::ReactorGroup& group) {
  auto service = std::make_unique<ServerService>(reactor, shared, group);
  if (absl::Status started = service->Start(); !started.ok()) return started;
  return std::unique_ptr<TunnelService>(std::move(service));
}

}  // namespace tunnel::net
