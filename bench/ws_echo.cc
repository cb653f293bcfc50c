// A WebSocket echo server and client on the tunnel's own reactor, TLS and codec (RFC 6455), without the tunnel: what
// other implementations are run against, and what is compared with them.
//
//   ws_echo -l ws://127.0.0.1:9001/                     a server; -l wss://... with -cert and -key
//   ws_echo -c ws://127.0.0.1:9001/ -messages 1000      a client: sends messages, wants each back
//   ws_echo -c ws://127.0.0.1:9001/ -mode echo          a client that echoes; -mode receive: that only takes messages
#include <signal.h>

#include <array>
#include <cstdio>
#include <string>
#include <vector>

#include "bench/ws_echo_client.h"
#include "bench/ws_echo_server.h"
#include "core/log.h"
#include "core/process.h"
#include "core/reactor_group.h"
#include "net/config.h"
#include "tools/flag_parser.h"
#include "tools/flag_values.h"

namespace tunnel::bench {
namespace {

using tools::FlagSpec;
using tools::GivenFlag;

constexpr std::array<FlagSpec, 15> kFlags = {{
    {.name = "l", .argument = "URL"},
    {.name = "c", .argument = "URL"},
    {.name = "cert", .argument = "FILE"},
    {.name = "key", .argument = "FILE"},
    {.name = "ca", .argument = "FILE"},
    {.name = "ip", .argument = "ADDRESS"},
    {.name = "protocol", .argument = "NAME,..."},
    {.name = "mode", .argument = "verify|echo|receive"},
    {.name = "messages", .argument = "NUMBER"},
    {.name = "size", .argument = "BYTES,..."},
    {.name = "kind", .argument = "text|binary|both"},
    {.name = "window", .argument = "NUMBER"},
    {.name = "threads", .argument = "NUMBER"},
    {.name = "backend", .argument = "auto|io_uring|epoll"},
    {.name = "log-level", .argument = "LEVEL"},
}};
constexpr unsigned kMessageLimit = 100'000'000;
constexpr unsigned kSizeLimit = 1U << 20;  // what net/limits.h lets a message be

struct Settings {
  std::vector<GivenFlag> given;

  [[nodiscard]] std::string Text(std::string_view name, std::string_view otherwise = {}) const {
    for (const GivenFlag& flag : given) {
      if (flag.spec->name == name) return flag.value;
    }
    return std::string(otherwise);
  }
  [[nodiscard]] absl::StatusOr<unsigned> Number(std::string_view name, unsigned otherwise, unsigned most) const {
    const std::string text = Text(name);
    if (text.empty()) return otherwise;
    auto number = tools::ParseNumber(text, 1, most);
    if (!number.ok()) return Annotate(number.status(), "-{}", name);
    return number;
  }
};

absl::StatusOr<core::ReactorOptions> ReactorOptionsOf(const Settings& settings) {
  const std::string name = settings.Text("backend", "auto");
  core::ReactorOptions options;
  if (name == "io_uring") {
    options.backend = core::BackendChoice::kUring;
  } else if (name == "epoll") {
    options.backend = core::BackendChoice::kEpoll;
  } else if (name != "auto") {
    return InvalidArgument("-backend {}: expected auto, io_uring or epoll", name);
  }
  return options;
}

absl::StatusOr<std::vector<std::string>> ListOf(const Settings& settings, std::string_view name) {
  std::vector<std::string> list;
  const std::string text = settings.Text(name);
  if (text.empty()) return list;
  const auto items = tools::SplitList(text);
  if (!items.ok()) return Annotate(items.status(), "-{}", name);
  list.assign(items->begin(), items->end());
  return list;
}

absl::StatusOr<EchoServerOptions> ServerOptionsOf(const Settings& settings) {
  EchoServerOptions options;
  std::vector<net::ListenSpec> listen;
  TUNNEL_RETURN_IF_ERROR(tools::ParseListen(settings.Text("l"), listen));
  options.listen = listen[0];
  const bool tls = options.listen.kind == net::ListenKind::kServerTls;
  if (!tls && options.listen.kind != net::ListenKind::kServerPlain) {
    return InvalidArgument("-l: expected ws://ip:port/path or wss://ip:port/path");
  }
  options.certificate_file = settings.Text("cert");
  options.key_file = settings.Text("key");
  if (tls && (options.certificate_file.empty() || options.key_file.empty())) {
    return InvalidArgument("-cert and -key are missing: wss:// needs both");
  }
  auto subprotocols = ListOf(settings, "protocol");
  if (!subprotocols.ok()) return subprotocols.status();
  options.subprotocols = *std::move(subprotocols);
  return options;
}

absl::StatusOr<EchoClientOptions> ClientOptionsOf(const Settings& settings) {
  EchoClientOptions options;
  auto url = proto::ParseUrl(settings.Text("c"), {"ws", "wss"});
  if (!url.ok()) return url.status();
  options.url = *std::move(url);
  if (!options.url.port) options.url.port = static_cast<uint16_t>(options.url.scheme == "ws" ? 80 : 443);
  options.server = settings.Text("ip");
  options.ca_file = settings.Text("ca");
  options.subprotocol = settings.Text("protocol");
  const std::string mode = settings.Text("mode", "verify");
  if (mode == "echo") {
    options.mode = EchoClientOptions::Mode::kEcho;
  } else if (mode == "receive") {
    options.mode = EchoClientOptions::Mode::kReceive;
  } else if (mode != "verify") {
    return InvalidArgument("-mode {}: expected verify, echo or receive", mode);
  }
  const auto messages = settings.Number("messages", 1, kMessageLimit);
  if (!messages.ok()) return messages.status();
  options.messages = *messages;
  const auto window = settings.Number("window", 1, kMessageLimit);
  if (!window.ok()) return window.status();
  options.window = *window;
  const auto sizes = ListOf(settings, "size");
  if (!sizes.ok()) return sizes.status();
  if (!sizes->empty()) options.sizes.clear();
  for (const std::string& text : *sizes) {
    const auto size = tools::ParseNumber(text, 0, kSizeLimit);
    if (!size.ok()) return Annotate(size.status(), "-size");
    options.sizes.push_back(*size);
  }
  const std::string kind = settings.Text("kind", "both");
  if (kind == "text" || kind == "binary") {
    options.kinds = {kind == "text" ? proto::Opcode::kText : proto::Opcode::kBinary};
  } else if (kind != "both") {
    return InvalidArgument("-kind {}: expected text, binary or both", kind);
  }
  return options;
}

// Ends the servers of all cores on a signal. Belongs to core 0.
class Stopper final : public core::CoreService {
 public:
  Stopper(core::Reactor& reactor, std::unique_ptr<EchoServer> server, core::ReactorGroup& group,
          std::vector<EchoServer*>& servers)
      : server_(std::move(server)),
        group_(group),
        servers_(servers),
        signals_(reactor, {SIGTERM, SIGINT}, [this](int /*signal*/) { Stop(); }) {}

 private:
  void Stop() {
    if (std::exchange(stopping_, true)) return;
    for (unsigned core = 0; core < group_.size(); ++core) {
      group_.Post(0, core, [this, core] {
        servers_[core]->Drain([this, core] {
          group_.Post(core, 0, [this] {
            if (++drained_ == group_.size()) group_.StopAll();
          });
        });
      });
    }
  }

  std::unique_ptr<EchoServer> server_;
  core::ReactorGroup& group_;
  std::vector<EchoServer*>& servers_;
  bool stopping_ = false;
  unsigned drained_ = 0;
  core::SignalWatch signals_;
};

absl::Status Serve(const Settings& settings) {
  auto options = ServerOptionsOf(settings);
  if (!options.ok()) return options.status();
  const auto reactor_options = ReactorOptionsOf(settings);
  if (!reactor_options.ok()) return reactor_options.status();
  const auto threads = settings.Number("threads", 1, 1024);
  if (!threads.ok()) return threads.status();
  core::ReactorGroup group(*reactor_options, *threads);
  std::vector<EchoServer*> servers(group.size());
  return group.Run([&](core::Reactor& reactor) -> absl::StatusOr<std::unique_ptr<core::CoreService>> {
    auto server = std::make_unique<EchoServer>(reactor, *options);
    TUNNEL_RETURN_IF_ERROR(server->Start(group.size() > 1));
    servers[reactor.index()] = server.get();
    if (reactor.index() != 0) return std::unique_ptr<core::CoreService>(std::move(server));
    return std::unique_ptr<core::CoreService>(std::make_unique<Stopper>(reactor, std::move(server), group, servers));
  });
}

core::Task<void> RunAndStop(core::Reactor& reactor, EchoClientOptions options, absl::StatusOr<std::string>* result) {
  *result = co_await RunEchoClient(reactor, std::move(options));
  reactor.Stop();
}

absl::Status Dial(const Settings& settings) {
  auto options = ClientOptionsOf(settings);
  if (!options.ok()) return options.status();
  const auto reactor_options = ReactorOptionsOf(settings);
  if (!reactor_options.ok()) return reactor_options.status();
  std::string note;
  auto reactor = core::Reactor::Create(*reactor_options, 0, note);
  if (!reactor.ok()) return reactor.status();
  absl::StatusOr<std::string> result = Internal("not run");
  {
    core::Scope scope(**reactor);
    scope.Spawn(RunAndStop(**reactor, *std::move(options), &result));
    (*reactor)->Run();
  }
  if (!result.ok()) return result.status();
  fmt::print("{}\n", *result);
  return absl::OkStatus();
}

int Main(const std::vector<std::string>& args) {
  std::vector<const FlagSpec*> specs;
  specs.reserve(kFlags.size());
  for (const FlagSpec& spec : kFlags) specs.push_back(&spec);
  auto given = tools::SplitArguments(args, specs);
  absl::Status status = given.status();
  if (given.ok()) {
    const Settings settings{*std::move(given)};
    const bool server = !settings.Text("l").empty();
    core::RaiseOpenFilesLimit();
    // A client ends as any program does on a signal.
    if (server) core::BlockSignals({SIGTERM, SIGINT});
    core::BlockSignals({});
    const std::string level = settings.Text("log-level", server ? "info" : "warn");
    if (server == !settings.Text("c").empty()) {
      status = InvalidArgument("expected either -l, what to listen on, or -c, the server to dial");
    } else if (!core::IsLogLevel(level)) {
      status = InvalidArgument("-log-level {}: expected error, warn, info, debug or trace", level);
    } else {
      core::StartLog(level, core::LogFormat::kText);
      status = server ? Serve(settings) : Dial(settings);
    }
  }
  if (!status.ok()) fmt::print(stderr, "ws_echo: {}\n", MessageOf(status));
  return status.ok() ? 0 : 1;
}

}  // namespace
}  // namespace tunnel::bench

int main(int argc, char** argv) {
  return tunnel::bench::Main(std::vector<std::string>(argv + (argc > 0 ? 1 : 0), argv + argc));
}
