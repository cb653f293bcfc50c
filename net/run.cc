#include "net/run.h"

#include <signal.h>

#include <memory>
#include <optional>
#include <vector>

#include "core/log.h"
#include "core/process.h"
#include "core/reactor_group.h"
#include "net/client_service.h"
#include "net/server_service.h"

namespace tunnel::net {
namespace {

// Starts, stops and reports for all cores. Its state belongs to core 0, but for `services_`, each of which belongs to
// its own core.
class Program {
 public:
  explicit Program(core::ReactorGroup& group) : group_(group), services_(group.size()) {}

  void Add(unsigned core, TunnelService& service) { services_[core] = &service; }
  void WatchSignals(core::Reactor& reactor) {
    signals_ =
        std::make_unique<core::SignalWatch>(reactor, std::initializer_list<int>{SIGTERM, SIGINT, SIGHUP, SIGUSR1},
                                            [this](int signal) { OnSignal(signal); });
  }
  void StopWatching() { signals_.reset(); }

 private:
  void OnSignal(int signal) {
    switch (signal) {
      case SIGUSR1:
        spdlog::info("counters: {}", core::DescribeCounters(group_.counters()));
        break;
      case SIGHUP:
        for (unsigned core = 0; core < group_.size(); ++core) {
          group_.Post(0, core, [service = services_[core], core] {
            const absl::Status reloaded = service->Reload();
            if (!reloaded.ok()) {
              spdlog::error("SIGHUP: going on with what was loaded before: {}", MessageOf(reloaded));
            } else if (core == 0) {
              spdlog::info("SIGHUP: reloaded");
            }
          });
        }
        break;
      default:
        Stop();
        break;
    }
  }

  void Stop() {
    const bool again = std::exchange(stopping_, true);
    spdlog::info("{}", again ? "stopping at once"
                             : "stopping: no new connections, streams may finish; signal again to "
                               "stop at once");
    for (unsigned core = 0; core < group_.size(); ++core) {
      group_.Post(0, core, [this, core, again] {
        TunnelService& service = *services_[core];
        if (again) {
          service.Hurry();
        } else {
          service.Drain([this, core] { group_.Post(core, 0, [this] { OnDrained(); }); });
        }
      });
    }
  }

  void OnDrained() {
    if (++drained_ < group_.size()) return;
    spdlog::info("counters: {}", core::DescribeCounters(group_.counters()));
    group_.StopAll();
  }

  core::ReactorGroup& group_;
  std::vector<TunnelService*> services_;
  std::unique_ptr<core::SignalWatch> signals_;
  bool stopping_ = false;
  unsigned drained_ = 0;
};

// Core 0's service with the signals, which must go before its reactor does.
class WithSignals final : public core::CoreService {
 public:
  WithSignals(std::unique_ptr<TunnelService> service, Program& program)
      : service_(std::move(service)), program_(program) {}
  ~WithSignals() override { program_.StopWatching(); }

 private:
  std::unique_ptr<TunnelService> service_;
  Program& program_;
};

}  // namespace

absl::Status RunTunnel(const Config& config, absl::AnyInvocable<void()> prepared) {
  unsigned threads = config.threads == 0 ? core::UsableCores() : config.threads;
  std::optional<core::ReactorGroup> made_group;  // the last to end: what is shared uses its epochs
  std::unique_ptr<ServerShared> server;
  std::unique_ptr<ClientShared> client;
  if (config.is_server()) {
    auto shared = ServerShared::Prepare(config, threads);
    if (!shared.ok()) return shared.status();
    server = *std::move(shared);
  } else {
    auto shared = ClientShared::Prepare(config, threads);
    if (!shared.ok()) return shared.status();
    client = *std::move(shared);
    threads = client->threads();
  }
  // Nothing is logged before this: what is wrong with the input is one line and no more.
  prepared();
  if (server != nullptr) LogIdentity(server->identity);
  if (client != nullptr && config.fallback) {
    spdlog::warn("-fallback: channels are dialled WITHOUT ECH; everyone on the path reads the name {}",
                 config.server_host);
  }
  if (client != nullptr) {
    if (const std::string names = ClientShared::DohNameInClear(config); !names.empty()) {
      spdlog::warn(
          "-dns: {} is looked up in clear, by the system's resolvers; -dns https://IP/dns-query with -ca or "
          "-pin where its certificate needs them, or -ech-config with -ip, avoids that",
          names);
    }
  }
  core::ReactorGroup& group = made_group.emplace(config.reactor, threads);
  Program program(group);
  absl::Status status = group.Run([&](core::Reactor& reactor) -> absl::StatusOr<std::unique_ptr<core::CoreService>> {
    absl::StatusOr<std::unique_ptr<TunnelService>> service =
        server != nullptr ? MakeServerService(reactor, *server, group) : MakeClientService(reactor, *client, group);
    if (!service.ok()) return service.status();
    program.Add(reactor.index(), **service);
    if (reactor.index() != 0) return std::unique_ptr<core::CoreService>(*std::move(service));
    program.WatchSignals(reactor);
    return std::unique_ptr<core::CoreService>(std::make_unique<WithSignals>(*std::move(service), program));
  });
  if (status.ok()) spdlog::info("stopped");
  return status;
}

}  // namespace tunnel::net
