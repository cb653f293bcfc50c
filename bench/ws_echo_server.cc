#include "bench/ws_echo_server.h"

#include <algorithm>

#include "core/log.h"
#include "net/limits.h"
#include "net/tcp_stream.h"
#include "net/tls_stream.h"
#include "proto/http1_builder.h"
#include "proto/http1_upgrade.h"
#include "proto/websocket_handshake.h"

namespace tunnel::bench {
namespace {

constexpr core::Duration kCountInterval = std::chrono::milliseconds(50);

std::string Refusal(int status, std::string_view reason) {
  auto builder = proto::HttpHeadBuilder::Response(status, reason);
  builder.Add("Content-Length", "0").Add("Connection", "close");
  // RFC 6455 section 4.4: whoever came with another version is told ours.
  if (status == 400 || status == 426) builder.Add("Sec-WebSocket-Version", "13");
  auto head = builder.Finish();
  TUNNEL_CHECK(head.ok());
  return *std::move(head);
}

// The first of the comma-separated `offered` that is `known`; empty when none is.
std::string_view ChooseSubprotocol(std::string_view offered, const std::vector<std::string>& known) {
  while (!offered.empty()) {
    const size_t comma = std::min(offered.find(','), offered.size());
    std::string_view item = offered.substr(0, comma);
    offered.remove_prefix(std::min(comma + 1, offered.size()));
    while (item.starts_with(' ') || item.starts_with('\t')) item.remove_prefix(1);
    while (item.ends_with(' ') || item.ends_with('\t')) item.remove_suffix(1);
    if (std::ranges::find(known, item) != known.end()) return item;
  }
  return {};
}

}  // namespace

EchoServer::~EchoServer() = default;

absl::Status EchoServer::Start(bool share_port) {
  if (options_.listen.kind == net::ListenKind::kServerTls) {
    auto tls = net::TlsServerContext::FromFiles(options_.certificate_file, options_.key_file, {"http/1.1"});
    if (!tls.ok()) return tls.status();
    tls_ = *std::move(tls);
  }
  return Listen(options_.listen, options_.bound, share_port,
                [this](core::StreamSocket socket, const core::SocketAddress& /*peer*/) {
                  scope().Spawn(Serve(std::move(socket)));
                });
}

core::Task<void> EchoServer::Serve(core::StreamSocket socket) {
  core::TaskContext& context = co_await core::CurrentTask();
  const core::DeadlineGuard deadline(context, net::kNegotiationLimit);
  if (tls_ == nullptr) {
    co_await Upgrade(std::make_unique<net::TcpStream>(std::move(socket)));
    co_return;
  }
  auto engine = net::TlsEngine::Server(*tls_);
  if (!engine.ok()) co_return;
  auto stream = std::make_unique<net::TlsStream>(reactor(), std::move(socket), *std::move(engine));
  const absl::Status shaken = co_await stream->Handshake();
  if (!shaken.ok()) {
    spdlog::info("TLS with {}: {}", stream->peer(), MessageOf(shaken));
    stream->CloseAfterSend(net::kCloseLimit);
    co_return;
  }
  co_await Upgrade(std::move(stream));
}

core::Task<void> EchoServer::Upgrade(std::unique_ptr<net::ByteStream> stream) {
  std::string answer;
  std::string rest;
  bool upgraded = false;
  bool counting = false;
  {
    net::ByteReader reader(*stream);
    net::HttpReader http(reader);
    proto::RequestHead head;
    const bool read = co_await http.ReadRequest(head);
    if (read) {
      const auto upgrade = proto::CheckWebSocketUpgrade(head);
      if (options_.listen.path != "/" && head.path != options_.listen.path) {
        answer = Refusal(404, "Not Found");
      } else if (!upgrade.ok()) {
        spdlog::info("{}: {}", stream->peer(), MessageOf(upgrade.status()));
        const auto version = head.fields.Find("Sec-WebSocket-Version");
        const bool other_version = version.has_value() && *version != "13";
        answer = other_version ? Refusal(426, "Upgrade Required") : Refusal(400, "Bad Request");
      } else {
        auto builder = proto::HttpHeadBuilder::Response(101, "Switching Protocols");
        builder.Add("Upgrade", "websocket")
            .Add("Connection", "Upgrade")
            .Add("Sec-WebSocket-Accept", proto::WebSocketAcceptFor(upgrade->key));
        const std::string_view chosen = ChooseSubprotocol(upgrade->protocols, options_.subprotocols);
        counting = chosen == kCountingProtocol;
        if (!chosen.empty()) builder.Add("Sec-WebSocket-Protocol", chosen);
        auto accepted = builder.Finish();
        TUNNEL_CHECK(accepted.ok());
        answer = *std::move(accepted);
        upgraded = true;
      }
    } else if (http.error().status != 0) {
      answer = Refusal(http.error().status, http.error().reason);
    }
    rest = http.TakeRest();
    reader.Detach();
  }
  if (!answer.empty()) stream->Send(reactor().buffers().Copy(answer));
  if (upgraded) {
    StartSession(std::move(stream), rest.empty() ? core::Slice() : reactor().buffers().Copy(rest), counting);
  } else {
    stream->CloseAfterSend(net::kCloseLimit);
  }
}

void EchoServer::StartSession(std::unique_ptr<net::ByteStream> stream, core::Slice received, bool counting) {
  const uint64_t number = next_number_++;
  std::string peer = stream->peer();
  spdlog::info("{} up", peer);
  auto session = std::make_unique<EchoSession>(reactor(), std::move(stream), proto::Role::kServer,
                                               [this, number, peer = std::move(peer)](const absl::Status& reason) {
                                                 const EchoCounts& counts = sessions_.at(number)->counts();
                                                 spdlog::info("{} down: {}; echoed {} messages, {} bytes", peer,
                                                              MessageOf(reason), counts.messages, counts.bytes);
                                                 down_.push_back(number);
                                                 reactor().ScheduleAttention(*this);
                                               });
  EchoSession& started = *session;
  sessions_.emplace(number, std::move(session));
  started.Start(std::move(received));
  if (counting) started.CountUp(kCountInterval);
}

void EchoServer::Attend() {
  for (const uint64_t number : std::exchange(down_, {})) sessions_.erase(number);
  if (sessions_.empty()) CheckIdle();
}

void EchoServer::CloseChannels() {
  for (const auto& [number, session] : sessions_) session->Close(proto::kCloseGoingAway, "server stops");
}

}  // namespace tunnel::bench
