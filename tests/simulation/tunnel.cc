#include "tunnel.h"

#include <fmt/format.h>

#include <chrono>

#include "datagram_plan.h"
#include "ech/doh_transport.h"
#include "ech/key_store.h"
#include "net/client_pool.h"
#include "net/core_service.h"
#include "net/direct_datagrams.h"
#include "net/forward_listener.h"
#include "net/limits.h"
#include "net/proxy_listener.h"
#include "net/source_limit.h"
#include "net/tunnel_server.h"
#include "proto/ip_address.h"
#include "server_pair.h"

namespace tunnel::simulation {
namespace {

constexpr const char* kInnerName = "inner.sim";
constexpr const char* kOuterName = "outer.sim";

// There is none: route and ECH key are given.
class NoDoh final : public ech::DohTransport {
 public:
  core::Task<absl::StatusOr<std::vector<uint8_t>>> Query(std::string name, uint16_t type) override {
    (void)name;
    (void)type;
    co_return Unavailable("there is no DoH here");
  }
};

// Knows the target's name, and takes a moment.
class SimResolver final : public net::Resolver {
 public:
  explicit SimResolver(core::Reactor& reactor) : reactor_(reactor) {}
  core::Task<absl::StatusOr<std::vector<core::SocketAddress>>> Resolve(std::string host, uint16_t port) override {
    if (const auto literal = core::SocketAddress::Parse(host, port); literal.has_value()) {
      co_return std::vector<core::SocketAddress>{*literal};
    }
    core::Sleep moment(reactor_.RandomBelow(std::chrono::milliseconds(30)));
    const absl::Status slept = co_await moment;
    if (!slept.ok()) co_return slept;
    if (host != kTargetName) co_return NotFound("no such name");
    co_return std::vector<core::SocketAddress>{*core::SocketAddress::Parse(kTargetIp, port)};
  }

 private:
  core::Reactor& reactor_;
};

}  // namespace

class ServerIdentity {
 public:
  ServerIdentity() {
    auto ticket_keys = net::TicketKeys::Create();
    TUNNEL_CHECK(ticket_keys.ok());
    auto made = net::TlsServerContext::FromPem(kServerCertificate, "certificate", kServerKey, "key", {"http/1.1"});
    TUNNEL_CHECK(made.ok());
    tls = *std::move(made);
    tls->ResumeWith(*ticket_keys);
    auto key =
        ech::GenerateKey(kOuterName, ech::kDefaultMaximumNameLength, {}, std::chrono::system_clock::time_point());
    TUNNEL_CHECK(key.ok());
    std::vector<ech::EchKey> keys;
    keys.push_back(*std::move(key));
    auto store = ech::KeyStore::FromKeys(std::move(keys));
    TUNNEL_CHECK(store.ok() && tls->SetEchKeys(*store).ok());
    const std::vector<uint8_t> list = store->PublishedList();
    ech_config_list.assign(list.begin(), list.end());
    auto client = net::TlsClientContext::Create({.pins = {tls->pin()}, .alpn = {"http/1.1"}, .resume = true});
    TUNNEL_CHECK(client.ok());
    client_tls = *std::move(client);
  }
  std::unique_ptr<net::TlsServerContext> tls;
  std::unique_ptr<net::TlsClientContext> client_tls;
  std::string ech_config_list;
};

const ServerIdentity& TheServerIdentity() {
  static const ServerIdentity identity;
  return identity;
}

CarrierTraits TraitsOf(net::Protocol protocol) {
  const bool native = protocol == net::Protocol::kNative;
  return {.half_close = native, .resets_pass = native, .isolates_streams = native, .outlives_channels = native};
}

class ServerSide;

// What the cores of the server share.
struct ServerSharing {
  net::SourceLimit sources{net::kChannelsPerSource};
  std::optional<net::MuxSessionDirectory> directory;  // made with the first core
  std::vector<ServerSide*> cores;
  std::vector<core::SocketAddress> server_bound;
  std::vector<core::SocketAddress> client_bound;
};

// One core of the server.
class ServerSide final : public net::TunnelService {
 public:
  ServerSide(core::Reactor& reactor, const net::Config& config, ServerSharing& sharing, bool share_port)
      : TunnelService(reactor),
        policy_({{.kind = net::TargetRule::Kind::kAny, .network = {}, .name = {}}}, {}),
        resolver_(reactor),
        connector_(reactor, resolver_, policy_),
        datagrams_(reactor, resolver_, policy_, scope()),
        server_(
            reactor,
            net::ServerParts{
                .config = config,
                .sources = sharing.sources,
                .directory = sharing.directory.has_value() ? *sharing.directory : sharing.directory.emplace(reactor),
                .move = [&sharing](unsigned core,
                                   net::MovedConnection moved) { sharing.cores[core]->Take(std::move(moved)); },
                .tls = TheServerIdentity().tls.get()},
            connector_, datagrams_, relays(), scope()) {
    sharing.cores.push_back(this);
    server_.SetEmptied([this] { CheckIdle(); });
    const net::ListenSpec& spec = config.listen.front();
    const absl::Status listening = Listen(spec, sharing.server_bound.front(), share_port,
                                          [this, &spec](core::StreamSocket socket, const core::SocketAddress&) {
                                            server_.OnAccepted(spec, std::move(socket));
                                          });
    TUNNEL_CHECK(listening.ok());
  }

 private:
  // From another core's turn: as ReactorGroup::Post does it.
  void Take(net::MovedConnection moved) {
    reactor().Defer([this, moved = std::move(moved)]() mutable { server_.OnMoved(std::move(moved)); });
    reactor().Wake();
  }
  void StopAdmitting() override { server_.GoAway(); }
  [[nodiscard]] bool HasLingeringStreams() const override { return server_.HasLingeringStreams(); }
  void CloseChannels() override { server_.CloseChannels(); }
  [[nodiscard]] bool HasChannels() const override { return server_.channels() > 0; }

  const net::TargetPolicy policy_;
  SimResolver resolver_;
  net::TargetConnector connector_;
  net::DirectDatagrams datagrams_;
  net::TunnelServer server_;
};

// One core of the client.
class ClientSide final : public net::TunnelService {
 public:
  ClientSide(core::Reactor& reactor, const net::Config& config, ServerSharing& sharing, bool share_port)
      : TunnelService(reactor) {
    auto directory = net::ServerDirectory::Create(reactor, config, doh_, scope());
    TUNNEL_CHECK(directory.ok());
    directory_ = *std::move(directory);
    pool_ = std::make_unique<net::ClientPool>(reactor, config, *TheServerIdentity().client_tls, *directory_);
    associations_ = std::make_unique<net::UdpAssociateSet>(reactor, *pool_);
    pool_->SetChanged([this](unsigned up) {
      if (up == 0) CheckIdle();
    });
    pool_->SetSettled([this] { CheckIdle(); });
    for (size_t i = 0; i < config.listen.size(); ++i) {
      const net::ListenSpec& spec = config.listen[i];
      const absl::Status listening = Listen(
          spec, sharing.client_bound[i], share_port,
          [this, &spec](core::StreamSocket socket, const core::SocketAddress&) { Serve(spec, std::move(socket)); });
      TUNNEL_CHECK(listening.ok());
    }
  }

  void AddChannel(unsigned number) { pool_->AddChannel(scope(), number, std::nullopt); }
  [[nodiscard]] unsigned channels_up() const { return pool_->channels_up(); }

 private:
  void CloseChannels() override {
    associations_->CloseAll();
    pool_->CloseChannels();
  }
  [[nodiscard]] bool HasLingeringStreams() const override { return pool_->HasLingeringStreams(); }
  [[nodiscard]] bool HasChannels() const override { return pool_->channels_up() > 0; }
  void Serve(const net::ListenSpec& spec, core::StreamSocket socket) {
    if (spec.kind == net::ListenKind::kForward) {
      scope().Spawn(net::ServeForward(reactor(), std::move(socket), spec, *pool_, relays()));
    } else {
      scope().Spawn(net::ServeProxy(reactor(), std::move(socket), spec, *pool_, relays(), *associations_));
    }
  }

  NoDoh doh_;
  std::unique_ptr<net::ServerDirectory> directory_;
  std::unique_ptr<net::ClientPool> pool_;
  std::unique_ptr<net::UdpAssociateSet> associations_;
};

Tunnel::Tunnel(core::SimWorld& world, core::SimHost client, core::SimHost server, const TunnelPlan& plan,
               uint32_t streams)
    : world_(world), plan_(plan), streams_(streams), sharing_(std::make_unique<ServerSharing>()) {
  // Nothing of one history is known in the next.
  TheServerIdentity().client_tls->tickets()->Clear();
  server_config_.admitted = {*proto::ParseCidr("0.0.0.0/0")};
  server_config_.token = "a token";
  server_config_.protocol = plan.protocol;
  net::ListenSpec at_server;
  at_server.kind = net::ListenKind::kServerTls;
  at_server.address = *core::SocketAddress::Parse(kServerIp, kServerPort);
  at_server.description = "wss://server";
  server_config_.listen = {at_server};
  sharing_->server_bound.resize(1);
  legacy_server_config_ = server_config_;
  legacy_server_config_.protocol = net::Protocol::kLegacy;

  client_config_.server_host = kInnerName;
  client_config_.server_port = kServerPort;
  client_config_.server_addresses = {*core::SocketAddress::Parse(kServerIp, 0)};
  client_config_.ech_name = kOuterName;
  client_config_.ech_config_list = TheServerIdentity().ech_config_list;
  client_config_.token = server_config_.token;
  client_config_.protocol = plan.protocol;
  net::ListenSpec proxy;
  proxy.address = *core::SocketAddress::Parse(kClientIp, kSocksPort);
  proxy.description = "proxy://client";
  client_config_.listen = {proxy};
  for (uint32_t number = 0; number < streams; ++number) {
    net::ListenSpec forward;
    forward.kind = net::ListenKind::kForward;
    forward.address = *core::SocketAddress::Parse(kClientIp, static_cast<uint16_t>(kFirstForwardPort + number));
    forward.target = {.host = kTargetIp, .port = static_cast<uint16_t>(kFirstTargetPort + number)};
    forward.description = fmt::format("tcp://client/{}", number);
    client_config_.listen.push_back(forward);
  }
  sharing_->client_bound.resize(client_config_.listen.size());

  for (unsigned core = 0; core < plan.client_cores; ++core) {
    client_reactors_.push_back(world.MakeReactor(client, core));
    reactors_.push_back(client_reactors_.back().get());
  }
  for (unsigned core = 0; core < plan.server_cores; ++core) {
    server_reactors_.push_back(world.MakeReactor(server, core));
    reactors_.push_back(server_reactors_.back().get());
  }
  for (const auto& reactor : server_reactors_) {
    const bool knows_mux = plan.protocol != net::Protocol::kAuto || servers_.empty();
    servers_.push_back(std::make_unique<ServerSide>(*reactor, knows_mux ? server_config_ : legacy_server_config_,
                                                    *sharing_, plan.server_cores > 1));
  }
  for (const auto& reactor : client_reactors_) {
    clients_.push_back(std::make_unique<ClientSide>(*reactor, client_config_, *sharing_, plan.client_cores > 1));
  }
  // Every core has one: here nobody hands connections to another core.
  for (unsigned i = 0; i < std::max(plan.channels, plan.client_cores); ++i) {
    clients_[i % clients_.size()]->AddChannel(i + 1);
  }
}

Tunnel::~Tunnel() {
  clients_.clear();
  servers_.clear();
  // Part of a reactor's domain; what reactors still hold, as a connection on its way to another core, is in turn part
  // of what the cores share.
  sharing_->directory.reset();
  client_reactors_.clear();
  server_reactors_.clear();
}

unsigned Tunnel::channels_up() const {
  unsigned up = 0;
  for (const auto& client : clients_) up += client->channels_up();
  return up;
}

void Tunnel::Stop() {
  for (const auto& client : clients_) client->Drain([this] { ++stopped_; });
  for (const auto& server : servers_) server->Drain([this] { ++stopped_; });
  for (core::Reactor* reactor : reactors_) reactor->Wake();
}

std::string Tunnel::EndAndFindLeaks() {
  TUNNEL_CHECK(stopped());
  clients_.clear();
  servers_.clear();
  // What their destructors asked for takes a turn or two; the clock may go on a little for it.
  const auto clean = [&] {
    for (core::Reactor* reactor : reactors_) {
      const core::Counters& counters = reactor->counters();
      if (counters.sockets_open.Get() != 0 || counters.buffers_in_use.Get() != 0) return false;
    }
    return true;
  };
  (void)world_.Run(clean, world_.now() + std::chrono::seconds(1));
  std::string leaks;
  for (size_t i = 0; i < reactors_.size(); ++i) {
    const core::Counters& counters = reactors_[i]->counters();
    const auto look = [&](const char* name, const core::Counter& counter) {
      if (counter.Get() == 0) return;
      leaks += fmt::format("{}core {} of the {} still counts {}={}", leaks.empty() ? "" : "; ", reactors_[i]->index(),
                           i < plan_.client_cores ? "client" : "server", name, counter.Get());
    };
    look("sockets_open", counters.sockets_open);
    look("streams_open", counters.streams_open);
    look("buffers_in_use", counters.buffers_in_use);
    look("buffer_bytes_in_use", counters.buffer_bytes_in_use);
    look("channels_up", counters.channels_up);
    look("handshakes_in_progress", counters.handshakes_in_progress);
    look("connects_in_progress", counters.connects_in_progress);
    look("associations_open", counters.associations_open);
    look("timers_armed", counters.timers_armed);
  }
  return leaks;
}

size_t Tunnel::MemoryBudget() const {
  constexpr size_t kBlock = core::BufferPool::kMaxBlockBytes;
  // Of a channel: its socket's queue, what waits to be encrypted, a message and a record being read and written.
  const size_t channel = core::kSendHighWaterBytes + 8 * kBlock;
  // Of a stream: the outside socket's queue, what is parked for it, and one read by which each side may pass its bound,
  // on the channel's queue too; blocks are not full, so twice.
  const size_t stream = 2 * (core::kSendHighWaterBytes + net::kParkedStreamBytes + 3 * kBlock);
  // Of an association: what waits for each target's name, and what its sockets collect in a turn.
  const size_t association = 2 * (kDatagramTargets * net::kWaitingDatagramBytes + 2 * core::kDatagramBatchBytes);
  return 16 * kBlock + channel * std::max(plan_.channels, plan_.client_cores) + stream * streams_ +
         association * plan_.associations;
}

}  // namespace tunnel::simulation
